"""Finds the scenes of COLMAP and nerfstudio below a folder, and gives every scene a unique id."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from model.fingerprint import fingerprint

_LONGEST_NAME = 80
_TABLES = ("cameras", "images")


@dataclass(frozen=True)
class Scene:
    """A scene's folder.

    Attributes:
        name: Its path inside the data set.
        folder: The folder to which the pictures' names are relative.
        files: The files that hold the cameras.
        models: The folders of COLMAP's models.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    models: tuple[Path, ...] = ()

    def only_model(self) -> Path:
        """Returns the folder of the scene's model.

        Raises:
            ValueError: it has several; each is a part of the path, in its own unit.
        """
        if len(self.models) > 1:
            raise ValueError(
                f"{self.folder}: expected one COLMAP model, got {len(self.models)}, each in a unit of its own: "
                f"{', '.join(map(str, self.models))}; import each by itself (path=MODEL)"
            )
        return self.models[0]


def colmap_scenes(root: Path) -> list[Scene]:
    """Returns the scenes below a folder with a model in `sparse/0`, `sparse` or the scene itself, sorted by path."""
    root = root.resolve()
    models = defaultdict(set)
    for suffix in (".bin", ".txt"):
        for cameras in root.rglob(f"cameras{suffix}"):
            if (cameras.parent / f"images{suffix}").is_file():
                models[_scene_of(cameras.parent)].add(cameras.parent)
    scenes = []
    for folder in sorted(models):
        found = tuple(sorted(models[folder]))
        files = tuple(model / f"{name}{suffix}" for model in found for name in _TABLES for suffix in (".bin", ".txt"))
        scenes.append(Scene(_name(root, folder), folder, files, found))
    return scenes


def nerfstudio_scenes(root: Path) -> list[Scene]:
    """Returns the scenes of a folder and all folders below it that hold a `transforms.json`, sorted by path."""
    root = root.resolve()
    files = sorted(file for file in root.rglob("transforms.json") if file.is_file())
    return [Scene(_name(root, file.parent), file.parent, (file,)) for file in files]


def _scene_of(model: Path) -> Path:
    """The folder that holds `sparse/0` or `sparse`; a model that lies elsewhere is its own scene."""
    if model.parent.name == "sparse":
        return model.parent.parent
    return model.parent if model.name == "sparse" else model


def _name(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix() if root in folder.parents else folder.name


def scene_id(kind: str, name: str, *files: Path) -> str:
    """Returns the name's ASCII letters and digits, with a digest of the kind, the name and the files' contents.

    It does not depend on where the scene is stored, and differs for another scene of the same name.

    Args:
        kind: The data set's kind.
        name: The scene's path inside the data set; it need not be UTF-8.
        files: The files that hold the cameras. One that is no regular file, or cannot be read, counts as empty.
    """
    contents = [f"{kind}\n".encode(), os.fsencode(name), *(b"\n" + _digest(file) for file in files)]
    readable = re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).strip("_.-")[:_LONGEST_NAME] or kind
    return f"{readable}-{fingerprint(*contents)[:10]}"


def _digest(file: Path) -> bytes:
    try:
        if not file.is_file():  # reading a pipe would block
            return b""
        return bytes.fromhex(fingerprint(file))
    except OSError:
        return b""
