"""What a folder holds that is not a world, judged by its files before any weight is read."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from model.pretrained.wan_fun import EXPERTS, transformer_folders

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")
_GGUF = "quantised weights (GGUF), which cannot be flown; use the model's safetensors in 16 bits"
_QUANTISED = {"F8_E4M3", "F8_E5M2", "I8", "U8"}


def contents_of(folder: Path) -> str | None:
    """What a folder holds and what to do, in words; None if its files are unknown, or can be loaded as a world.

    Raises:
        ValueError: A weight file is damaged.
    """
    names = {path.name for path in folder.iterdir()}
    if experts := names & set(EXPERTS):
        return _contents_of_experts(folder, experts)
    if any(name.endswith(".gguf") for name in names):
        return _GGUF
    tensors = _tensors(folder)
    if contents := _contents_of_tensors(folder, tensors):
        return contents
    if _has_camera(tensors):
        return None
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
    files = [file for part in transformer_folders(folder) for file in part.glob("diffusion_pytorch_model*.safetensors")]
    return "wan_fun" if any(_has_camera(_header(file)) for file in files) else None


def contents_of_weights(folder: Path) -> str | None:
    """What is wrong with the weights of a transformer or a VAE, by their headers; None if they can be loaded.

    Raises:
        ValueError: A weight file is damaged.
    """
    if any(path.suffix == ".gguf" for path in folder.glob("*")):
        return _GGUF
    return _contents_of_tensors(folder, _tensors(folder))


def _contents_of_experts(folder: Path, names: set[str]) -> str | None:
    """As `contents_of`, for a folder with Wan 2.2 A14B's experts."""
    whole = "the two experts of a Wan 2.2 A14B model"
    if missing := set(EXPERTS) - names:
        return f"one of {whole}; download {missing.pop()}/ too"
    for expert in EXPERTS:
        tensors = _tensors(folder / expert)
        if contents := _contents_of_tensors(folder / expert, tensors):
            return f"{whole}, of which {expert}/ holds {contents}"
        if not tensors:
            return f"{whole}, of which {expert}/ holds no weights; download its diffusion_pytorch_model*.safetensors"
        if not _has_camera(tensors):
            return f"{whole}, without a camera; use Wan2.2-Fun-A14B-Control-Camera"
    return None


def _contents_of_tensors(folder: Path, tensors: Mapping[str, str]) -> str | None:
    """What is wrong with the safetensors of a transformer; None if they can be loaded, or if we do not know them."""
    if missing := _missing_shards(sorted(folder.glob("*.safetensors"))):
        return f"{missing} of its weights; download the others"
    if any(".lora_" in name or name.startswith("lora_") for name in tensors):
        return "a LoRA, which changes another model's weights; merge it into its model first"
    if set(tensors.values()) & _QUANTISED:
        return "quantised weights, which cannot be flown; use the model's own in 16 bits"
    if any(name.startswith("ref_conv.") for name in tensors) and not _has_camera(tensors):
        return "a Wan-Fun-Control model, which follows a control film and no camera; use its Control-Camera sibling"
    return None


def _has_camera(tensors: Iterable[str]) -> bool:
    return any(name.startswith("control_adapter.") for name in tensors)


def _tensors(folder: Path) -> dict[str, str]:
    """Names and types of the tensors in a folder's safetensors; no weight is read."""
    return {name: kind for file in sorted(folder.glob("*.safetensors")) for name, kind in _header(file).items()}


def _missing_shards(files: list[Path]) -> str | None:
    """Says how many of all shards are there, if some are missing."""
    shards = [match for file in files if (match := _SHARD.fullmatch(file.name))]
    for stem, total in {match.groups() for match in shards}:
        count = sum(match[1] == stem for match in shards)
        if count < int(total):
            return f"{count} of {int(total)} shards"
    return None


def _header(file: Path) -> dict[str, str]:
    """Names and types of a file's tensors; no weight is read."""
    try:
        with safe_open(file, "pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file}: expected safetensors, got a damaged file ({error}); fetch it again") from error
