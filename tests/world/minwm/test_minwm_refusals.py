"""What is not minWM's student is named in one line, before anything large is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.pretrained.minwm import load_student, student_config
from model.world.load import load_world
from model.world.open import memory_need

BASE, STUDENT = "Wan2.1-T2V-1.3B", "Wan21/Action2V/dmd"


def stage(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / STUDENT).rename(folder / "Wan21" / "Action2V" / name)


def shards(folder: Path) -> None:
    (folder / STUDENT / "model.pt").rename(folder / STUDENT / "__0_0.distcp")


def rewritten(change: Callable[[dict[str, Any]], object], file: str = f"{STUDENT}/model.pt") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        stored = torch.load(folder / file, weights_only=True)
        torch.save(change(stored), folder / file)

    return write


def branch(change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    def apply(stored: dict[str, Any]) -> object:
        changed = {name: change(name, tensor) for name, tensor in stored["generator_ema"].items()}
        return {"generator_ema": {name: tensor for name, tensor in changed.items() if tensor is not None}}

    return rewritten(apply)


def image_base(folder: Path) -> None:
    (folder / BASE / "config.json").write_text(json.dumps({"model_type": "i2v", "num_heads": 2}))


FOLDERS = {
    r"got bidirectional \(the teacher, which makes a whole film at once": stage("bidirectional"),
    r"got ar_diffusion_tf \(the teacher of chunks": stage("ar_diffusion_tf"),
    r"got causal_ode \(the student before its last stage": stage("causal_ode"),
    r"got causal_cd \(the student before its last stage": stage("causal_cd"),
    "got shards of a distributed checkpoint": shards,
    r"got \['optimizer', 'step'\]": rewritten(lambda stored: {"optimizer": {"state": {}}, "step": 3}),
    "expected a camera": branch(lambda name, tensor: None if "prope_o" in name else tensor),
    "got patch_embedding.weight quantised": branch(lambda name, tensor: tensor.to(torch.int8)),
    "got 1 other tensors: blocks.1.text_norm.bias": branch(
        lambda name, t: None if name.endswith("1.norm3.bias") else t
    ),
    r"got 1 other tensors: blocks.0.feed_forward.linear_2.bias should be \(24,\), is \(12,\)": branch(
        lambda name, tensor: tensor[:12] if name.endswith("0.ffn.2.bias") else tensor
    ),
    "expected Wan 2.1's VAE with 16 latent channels, got one with 48": rewritten(
        lambda vae: vae | {"conv2.weight": torch.zeros(48, 48, 1, 1, 1)}, f"{BASE}/Wan2.1_VAE.pth"
    ),
    "expected that of Wan 2.1 T2V": image_base,
}


@pytest.mark.parametrize("reason", FOLDERS)
def test_another_model_is_named(copy: Path, reason: str) -> None:
    FOLDERS[reason](copy)
    with pytest.raises(ValueError, match=f"^world: .* cannot be loaded: .*{reason}") as caught:
        load_world(copy)
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl", "config.json"]
)
def test_a_missing_part_of_the_base_is_named(copy: Path, name: str) -> None:
    path = copy / BASE / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"^world: .*{name}, found none; download"):
        load_world(copy)


def test_a_program_in_a_checkpoint_is_not_run(copy: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("run",)

    torch.save({"generator": {"model.x": Program()}}, copy / STUDENT / "model.pt")
    with pytest.raises(ValueError, match="expected a file of tensors alone"):
        load_world(copy)


def test_too_little_memory_is_said_part_by_part(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_need, "_available", lambda device: 1000)
    with pytest.raises(
        ValueError, match=r"device: expected .* GB on cpu \(network .*, text encoder .*\), got 0.0; try"
    ):
        load_world(copy)


def test_the_average_is_read_where_there_is_one_and_wrapped_names_too(copy: Path) -> None:
    path = copy / STUDENT / "model.pt"
    average = torch.load(path, weights_only=True)["generator_ema"]
    wrapped = {name.replace("model.", "model._fsdp_wrapped_module.", 1): tensor for name, tensor in average.items()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in average.items()}
    expected = average["model.blocks.1.self_attn.prope_o.weight"]
    for stored, weight in (
        ({"generator": zeros, "generator_ema": wrapped}, expected),
        ({"generator": average}, expected),
    ):
        torch.save(stored, path)
        dit = load_student(path, student_config(path, copy / BASE), torch.float32)
        assert torch.equal(dit.state_dict()["projective_out.1.weight"], weight)
