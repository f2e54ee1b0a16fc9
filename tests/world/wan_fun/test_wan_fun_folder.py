"""What is wrong with a folder is said in one line, before anything large is read."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.world.load import load_world
from model.world.options import WorldOptions

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE = "Wan2.1_VAE.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
TEXT = "models_t5_umt5-xxl-enc-bf16.pth"


def one_shard_of_three(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model-00002-of-00003.safetensors")


def changed(name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        if name.endswith(".pth"):
            torch.save(change(torch.load(path, weights_only=True)), path)
        else:
            save_file(change(load_file(path)), path)

    return write


def only(*prefixes: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(prefixes)}


def in_eight_bits(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}


def wider_latents(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"conv2.weight": torch.zeros(48, 48, 1, 1, 1)}


def expert(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One of Wan 2.2's two."""
    return only("img_emb")({name: value for name, value in tensors.items() if "_img" not in name}) | {
        "patch_embedding.weight": torch.zeros(48, 36, 1, 2, 2)
    }


class Program:
    """Pickled, it makes a file when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.made,))


def a_program(folder: Path) -> None:
    (folder / VAE).write_bytes(pickle.dumps(Program(folder / "made")))


def damaged(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-500]) and None


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard": (one_shard_of_three, "got 1 of 3 shards of its weights; download the others"),
    "eight bits": (changed(WEIGHTS, in_eight_bits), "got quantised weights"),
    "GGUF": (lambda folder: (folder / "wan-Q4.gguf").write_bytes(b"GGUF") and None, "quantised weights (GGUF)"),
    "a LoRA": (changed(WEIGHTS, lambda old: {"blocks.0.q.lora_A.weight": torch.ones(1)}), "got a LoRA"),
    "no camera": (changed(WEIGHTS, only("control_adapter")), "got a Wan model in its original layout"),
    "a control model": (
        changed(WEIGHTS, lambda old: only("control_adapter")(old) | {"ref_conv.weight": torch.ones(1)}),
        "got a Wan-Fun-Control model",
    ),
    "one of two experts": (changed(WEIGHTS, expert), "got one of 36 without them; Wan 2.2's A14B flies, with both"),
    "a block's half": (changed(WEIGHTS, only("blocks.1.ffn")), "blocks.1.feed_forward.linear_1.bias should be"),
    "no VAE": (lambda folder: (folder / VAE).unlink(), "expected Wan 2.1's VAE, Wan2.1_VAE.pth or .safetensors, in"),
    "the VAE of 2.2": (changed(VAE, wider_latents), "16 latent channels, got one with 48; use Wan2.1_VAE.pth"),
    "another VAE": (changed(VAE, only("encoder.middle")), "expected the layers of Wan 2.1's VAE, got others"),
    "a program": (a_program, "expected a file of tensors alone"),
    "a damaged VAE": (damaged(VAE), "expected a file of tensors alone"),
    "another text encoder": (changed(TEXT, only("blocks.0.pos_embedding")), "expected Wan's UMT5 encoder, got a file"),
    "another image encoder": (changed(CLIP, only("visual.pos")), "expected the image encoder of CLIP (ViT-H/14), got"),
    "no tokenizer": (lambda folder: (folder / "google" / "umt5-xxl").rename(folder / "t"), "expected the tokenizer in"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_folder_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    for reader in ("load_wan_fun", "load_original_vae", "load_text_encoder", "load_image_encoder"):
        monkeypatch.setattr(f"model.world.open.wan_fun_folder.{reader}", None)
    change, message = BROKEN[case]
    change(copy)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        load_world(copy)
    assert str(caught.value).startswith("world: ") and "\n" not in str(caught.value)
    assert not (copy / "made").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (WorldOptions(sampler_steps=0), "sampler_steps: expected 1 to 1000, got 0"),
        (WorldOptions(metres_per_unit=-1.0), "metres_per_unit: expected a positive number, got -1.0"),
        (WorldOptions(guidance_camera=2.0), "guidance_camera: expected the default, it has no effect"),
        (WorldOptions(memory_latents=1), "memory_latents: expected the default, it has no effect"),
    ],
)
def test_a_wrong_option_is_named(published: Path, options: WorldOptions, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_world(published, options)


@pytest.mark.parametrize("name", ["metres_per_unit", "offload"])
def test_our_own_worlds_have_no_such_option(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected none, only an open model has one"):
        load_world("tiny", WorldOptions(**{name: True if name == "offload" else 2.0}))


def test_a_folder_without_settings_is_recognised_by_its_tensors(copy: Path) -> None:
    (copy / "world.yaml").unlink()
    spec = load_world(copy).spec
    assert (spec.height, spec.width, spec.frames_per_clip, spec.poses_per_clip) == (480, 832, 80, 20)
    assert spec.evaluations_per_clip == 100


def test_files_and_networks_of_16_bits_fly(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are published, and as they are read for a card."""
    for name, dtype in ((WEIGHTS, torch.bfloat16), (TEXT, torch.bfloat16), (CLIP, torch.float16)):
        changed(name, lambda old, kind=dtype: {key: value.to(kind) for key, value in old.items()})(copy)  # type: ignore[misc]
    monkeypatch.setattr("model.world.open.wan_fun_folder._dtype", lambda device: None)
    world = load_world(copy)
    picture = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    state, _ = world.start([1], ["a red box"], picture)
    _, frames = world.extend(state, torch.eye(4).repeat(1, 2, 1, 1))
    assert frames.shape == (1, 8, 32, 48, 3) and frames.float().std() > 1
    assert torch.equal(world.extend(state, torch.eye(4).repeat(1, 2, 1, 1))[1], frames)
    world.start([1], ["a red box"])  # without a picture


def test_safetensors_do_as_well(copy: Path) -> None:
    expected = load_world(copy).start([1], ["a box"])[1]
    for path in copy.glob("*.pth"):
        save_file(
            {name: value.clone() for name, value in torch.load(path, weights_only=True).items()},
            path.with_suffix(".safetensors"),
        )
        path.unlink()
    assert torch.equal(load_world(copy).start([1], ["a box"])[1], expected)
