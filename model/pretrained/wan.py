"""Open Wan weights in diffusers' folder format: the check of a whole pipeline, and the functions of its networks."""

from pathlib import Path

from model.config_file import read_json
from model.pretrained.wan_dit import load_dit, save_dit
from model.pretrained.wan_vae import load_vae, save_vae

__all__ = ["check_pipeline", "load_dit", "load_vae", "save_dit", "save_vae"]


def check_pipeline(folder: str | Path) -> None:
    """Raises where one transformer is not the whole model: Wan 2.2 A14B has two experts, one for each range of noise.

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
            "makes wrong films; use a pipeline of Wan 2.1"
        )
