"""What a downloaded Wan pipeline says about itself as a whole, in diffusers' `model_index.json`."""

import json
from pathlib import Path
from typing import Any

_INDEX = "model_index.json"


def check_pipeline(folder: str | Path) -> None:
    """Raises where one transformer is not the whole model: Wan 2.2 A14B has two experts, one for each range of noise.

    Raises:
        ValueError: there is a second transformer, or the index is no JSON object.
    """
    folder = Path(folder)
    index = _read_index(folder / _INDEX)
    second = index.get("transformer_2")
    is_listed = any(second) if isinstance(second, list) else second is not None
    if (folder / "transformer_2").is_dir() or is_listed or index.get("boundary_ratio") is not None:
        raise ValueError(
            "transformer_2: expected a pipeline of one transformer, got two experts (Wan 2.2 A14B), and either alone "
            "makes wrong films; use a pipeline of Wan 2.1"
        )


def _read_index(path: Path) -> dict[str, Any]:
    """The index, or nothing: `save_dit` and `save_vae` write none."""
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_INDEX}: expected JSON, got {error}; fetch it again") from error
    if not isinstance(index, dict):
        raise ValueError(f"{_INDEX}: expected a JSON object, got {type(index).__name__}; fetch it again")
    return index
