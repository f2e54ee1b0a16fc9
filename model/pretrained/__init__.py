"""Shipped weights; reading and writing of open weights and ours in the folder formats that others use."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

_FOLDER = Path(str(files(__name__)))


@lru_cache
def shipped_worlds() -> tuple[str, ...]:
    """Names of the worlds whose weights are shipped, the default one, `tiny`, first."""
    names = {path.parent.name for path in _FOLDER.glob("*/world.yaml")}
    return ("tiny", *sorted(names - {"tiny"}))


def shipped_folder(name: str) -> Path:
    """The folder of a shipped world."""
    return _FOLDER / name
