"""Folders that hold something else than a world: what, told by their files, before anything large is read."""

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")
_QUANTISED = {"F8_E4M3", "F8_E5M2", "I8", "U8"}


def contents_of(folder: Path) -> str | None:
    """What a folder holds and what to do, in words; None where its files are none that we know, or can be flown.

    Raises:
        ValueError: A weight file is damaged.
    """
    names = {path.name for path in folder.iterdir()}
    if {"high_noise_model", "low_noise_model"} <= names:
        return "the two experts of a Wan 2.2 A14B model, which cannot be flown yet; use Wan2.1-Fun-V1.1-Control-Camera"
    if any(name.endswith(".gguf") for name in names):
        return "quantised weights (GGUF), which cannot be flown; use the model's safetensors in 16 bits"
    files = sorted(folder.glob("*.safetensors"))
    if missing := _missing_shards(files):
        return f"{missing} of its weights; download the others"
    tensors = {name: kind for file in files for name, kind in _header(file).items()}
    if any(".lora_" in name or name.startswith("lora_") for name in tensors):
        return "a LoRA, which changes another model's weights; merge it into its model first"
    if set(tensors.values()) & _QUANTISED:
        return "quantised weights, which cannot be flown; use the model's own in 16 bits"
    if any(name.startswith("control_adapter.") for name in tensors):
        return None
    if any(name.startswith("ref_conv.") for name in tensors):
        return "a Wan-Fun-Control model, which follows a control film and no camera; use its Control-Camera sibling"
    if "patch_embedding.weight" in tensors:
        return (
            "a Wan model in its original layout, of which none that is flown here has a camera; use it in diffusers' "
            "layout (transformer/ vae/ text_encoder/ tokenizer/) and train its camera"
        )
    if pickles := sorted(name for name in names if name.endswith((".pt", ".pth", ".ckpt", ".bin"))):
        return (
            f"pickled weights ({pickles[0]}) alone; of minWM's student, name the folder that holds Wan21/ and "
            "Wan2.1-T2V-1.3B/; of another model, use safetensors"
        )
    if "HY15" in names and "Wan21" not in names:
        return "minWM's students of HunyuanVideo 1.5, which cannot be flown; download its Wan21/Action2V/dmd"
    return None


def open_kind(folder: Path) -> str | None:
    """The kind of world in a published folder of an open model, by the names of its tensors; None if there is none."""
    if (folder / "Wan21" / "Action2V").is_dir():
        return "minwm"
    files = folder.glob("diffusion_pytorch_model*.safetensors")
    is_wan_fun = any(name.startswith("control_adapter.") for file in files for name in _header(file))
    return "wan_fun" if is_wan_fun else None


def _missing_shards(files: list[Path]) -> str | None:
    """Says how many shards of how many there are, if not all."""
    shards = [match for file in files if (match := _SHARD.fullmatch(file.name))]
    for stem, total in {match.groups() for match in shards}:
        count = sum(match[1] == stem for match in shards)
        if count < int(total):
            return f"{count} of {int(total)} shards"
    return None


def _header(file: Path) -> dict[str, str]:
    """Names and types of a file's tensors; no number is read."""
    try:
        with safe_open(file, "pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: expected safetensors, got a damaged file ({error}); fetch it again") from error
