"""What is wrong with a pipeline in diffusers' layout is said in one line, before any weight is read."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.world import load
from model.world.load import load_world
from model.world.networks import read_world
from model.world.open.offloaded_text_encoder import OffloadedTextEncoder
from model.world.pipeline_folder import check_pipeline_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def one_shard_of_three(folder: Path) -> None:
    path = folder / "transformer" / WEIGHTS
    shards = [f"diffusion_pytorch_model-0000{k}-of-00003.safetensors" for k in (1, 2, 3)]
    names = sorted(load_file(path))
    (path.parent / INDEX).write_text(json.dumps({"weight_map": {name: shards[k % 3] for k, name in enumerate(names)}}))
    path.rename(path.parent / shards[0])


def changed(name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        save_file(change(load_file(folder / name)), folder / name)

    return write


def in_eight_bits(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}


def another_vae(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"z_dim": 48}))


def control_channels(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 52}))


def image_branch(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_dim": 1280}))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard": (one_shard_of_three, "transformer holds 1 of 3 shards of its weights; download the others"),
    "eight bits": (changed(f"transformer/{WEIGHTS}", in_eight_bits), "transformer holds quantised weights"),
    "a LoRA": (
        changed(f"transformer/{WEIGHTS}", lambda old: {"blocks.0.attn1.to_q.lora_A.weight": torch.ones(1)}),
        "transformer holds a LoRA",
    ),
    "GGUF": (
        lambda folder: (folder / "transformer" / WEIGHTS).rename(folder / "transformer" / "wan-Q4.gguf") and None,
        "transformer holds quantised weights (GGUF)",
    ),
    "no weights": (lambda folder: (folder / "vae" / WEIGHTS).unlink(), f"expected a file {WEIGHTS} in"),
    "a damaged file": (
        lambda folder: (folder / "transformer" / WEIGHTS).write_bytes(b"\0" * 100) and None,
        f"{WEIGHTS}: expected safetensors, got a damaged file",
    ),
    "another VAE": (another_vae, "vae: expected 16 latent channels like the transformer's, got 48"),
    "a control model": (control_channels, "got one of 52 input and 16 output channels, which reads a picture or"),
    "no VAE": (lambda folder: (folder / "vae").rename(folder / "v") and None, "expected a file"),
    "a picture branch": (image_branch, "image_dim"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_pipeline_is_named(wan_base: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    for reader in ("load_umt5", "read_vae", "read_dit"):
        monkeypatch.setattr(f"model.world.load.{reader}", None)
    change, message = BROKEN[case]
    change(wan_base)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        load_world(wan_base)
    assert str(caught.value).startswith("world: ") and "\n" not in str(caught.value)


def with_camera(folder: Path) -> None:
    path = folder / "transformer" / WEIGHTS
    save_file(load_file(path) | {"camera_embedding.weight": torch.ones(24, 6, 1, 2, 2)}, path)


def test_too_little_memory_is_said_before_anything_is_read(wan_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_camera(wan_base)
    for reader in ("load_umt5", "read_vae", "read_dit"):
        monkeypatch.setattr(f"model.world.load.{reader}", None)
    monkeypatch.setattr("model.world.open.memory_need._available", lambda device: 1000)
    with pytest.raises(ValueError, match=r"^world: .*device: expected .* GB on cpu \(transformer .*, VAE .*, text enc"):
        load_world(wan_base)


def test_beside_a_gpu_the_text_encoder_is_there_only_while_it_embeds(
    wan_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_camera(wan_base)
    elsewhere, config = torch.device("meta"), read_world(wan_base)  # a device that every computer has
    encoder = load._text_encoder(config.text_encoder, wan_base, elsewhere)
    assert isinstance(encoder, OffloadedTextEncoder)
    with pytest.raises(RuntimeError, match="meta tensors"):  # so it was there
        encoder.encode(["a red box"])
    assert {weights.device.type for weights in encoder._encoder.model.parameters()} == {"cpu"}
    monkeypatch.setattr("model.world.open.memory_need._available", lambda device: 1000)
    with pytest.raises(ValueError, match=r"^device: .* on meta \(transformer .*, VAE .*, text encoder, then decoding "):
        check_pipeline_folder(wan_base, config, elsewhere)


def test_a_base_flies_only_with_a_trained_camera(wan_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as unread, pytest.raises(ValueError, match=r"^world: .* one without a trained camera"):
        for reader in ("load_umt5", "read_vae", "read_dit"):
            unread.setattr(f"model.world.load.{reader}", None)
        load_world(wan_base)
    with_camera(wan_base)
    load_world(wan_base)
