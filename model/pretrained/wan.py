"""Open Wan weights in diffusers' folder format: the check of a whole pipeline, and the functions of its networks."""

from pathlib import Path

from model.config_file import read_json
from model.pretrained.diffusers_folder import check_shards, read_config
from model.pretrained.wan_dit import dit_config_from_diffusers, load_dit, save_dit
from model.pretrained.wan_vae import config_from_diffusers, load_vae, save_vae

__all__ = ["check_base", "check_pipeline", "config_from_diffusers", "load_dit", "load_vae", "save_dit", "save_vae"]


def check_base(folder: str | Path) -> Path:
    """The folder of an open base, after a check of its contents; no weights are read.

    Raises:
        FileNotFoundError: There is no such folder, or a file of it is missing, such as one shard of several.
        ValueError: It holds something else: adapters, a single file, a base of another family, two transformers.
    """
    folder = Path(folder)
    whole = "a folder in diffusers' layout with transformer/, vae/, text_encoder/ and tokenizer/"
    if folder.is_file():
        kinds = {".gguf": "quantised weights (GGUF)", ".safetensors": "a single file of weights"}
        kind = kinds.get(folder.suffix, "a file")
        raise ValueError(f"base: expected {whole}, got {kind}, {folder}; download the base's own pipeline folder")
    if not folder.is_dir():
        raise FileNotFoundError(f"base: expected {whole}, there is no {folder}; check the path")
    adapters = [*folder.glob("adapter_*.json"), *folder.glob("*lora*.safetensors")]
    if not (folder / "transformer").is_dir():
        found = f"adapters (LoRA: {adapters[0].name})" if adapters else "a folder without transformer/"
        raise ValueError(f"base: expected {whole}, got {found}; download the base's own pipeline folder")
    check_pipeline(folder)
    dit_config_from_diffusers(read_config(folder / "transformer"))
    config_from_diffusers(read_config(folder / "vae"))
    for part in ("transformer", "vae"):
        check_shards(folder / part)
    return folder


def check_pipeline(folder: str | Path) -> None:
    """Raises if one transformer is not the whole model: Wan 2.2 A14B has two experts, one for each range of noise.

    Raises:
        ValueError: there is a second transformer, or `model_index.json` is no JSON object.
    """
    path = Path(folder) / "model_index.json"
    index = read_json(path) if path.is_file() else {}  # `save_dit` and `save_vae` write none
    second = index.get("transformer_2")
    is_listed = any(second) if isinstance(second, list) else second is not None
    if (Path(folder) / "transformer_2").is_dir() or is_listed or index.get("boundary_ratio") is not None:
        raise ValueError(
            "transformer_2: expected a pipeline of one transformer, got two experts (Wan 2.2 A14B), and either alone "
            "makes wrong films; use a pipeline of Wan 2.1, or of Wan 2.2 5B"
        )
