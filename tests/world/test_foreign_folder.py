"""A folder that holds no world says what it holds, in one line, before anything large is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.world.load import load_world

ONE = torch.zeros(1)


def write(name: str, *tensors: str, dtype: torch.dtype = torch.float16) -> Callable[[Path], None]:
    return lambda folder: save_file({tensor: ONE.to(dtype) for tensor in tensors}, folder / name)


def experts(folder: Path) -> None:
    for name in ("high_noise_model", "low_noise_model"):
        (folder / name).mkdir()


WEIGHTS = "diffusion_pytorch_model.safetensors"
FOLDERS = {
    "a Wan-Fun-Control model": write(WEIGHTS, "patch_embedding.weight", "ref_conv.weight"),
    "a Wan model in its original layout": write(WEIGHTS, "patch_embedding.weight", "blocks.0.ffn.0.weight"),
    "1 of 3 shards": write("diffusion_pytorch_model-00001-of-00003.safetensors", "patch_embedding.weight"),
    "a LoRA": write("pytorch_lora_weights.safetensors", "blocks.0.self_attn.q.lora_A.weight"),
    "quantised weights, ": write(WEIGHTS, "patch_embedding.weight", dtype=torch.float8_e4m3fn),
    r"quantised weights \(GGUF\)": lambda folder: (folder / "wan-Q4.gguf").write_bytes(b"GGUF"),
    "the two experts of a Wan 2.2 A14B model": experts,
    "one of the two experts of a Wan 2.2 A14B model": lambda folder: (folder / "low_noise_model").mkdir(),
    "minWM's students of HunyuanVideo 1.5": lambda folder: (folder / "HY15").mkdir(),
    r"pickled weights \(model.pt\)": lambda folder: (folder / "model.pt").write_bytes(b"PK"),
}


@pytest.mark.parametrize("contents", FOLDERS)
def test_a_folder_of_something_else_is_named(tmp_path: Path, contents: str) -> None:
    FOLDERS[contents](tmp_path)
    with pytest.raises(ValueError, match=f"^world: .* cannot be loaded: expected a world, got {contents}") as caught:
        load_world(tmp_path)
    assert "\n" not in str(caught.value) and ("; " in str(caught.value) or "see model/" in str(caught.value))


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"^world: .*diffusion_pytorch_model\.safetensors: expected safetensors"):
        load_world(tmp_path)
