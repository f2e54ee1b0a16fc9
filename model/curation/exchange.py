"""Data sets that exist, into the folder of work (and so into the one manifest); and the manifest in their formats."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from model.curation.film_folder import FilmFolder
from model.curation.ledger import LedgerLine
from model.data.colmap_model import colmap_record, write_colmap_text
from model.data.manifest import ClipRecord, Manifest
from model.data.nerfstudio import nerfstudio_record
from model.data.realestate10k import read_realestate10k_folder, write_realestate10k_folder

ImportKind = Literal["realestate10k", "colmap", "nerfstudio"]
ExportKind = Literal["realestate10k", "colmap"]


def import_clips(out: str | Path, kind: ImportKind, records: Iterable[ClipRecord], rejected: dict[str, str]) -> None:
    """Adds clips that have a camera already, and a ledger line for each that could not be read; known ones stay."""
    for record in records:
        line = LedgerLine(id=record.id, source=record.source, verdict="kept", step="read")
        _add(out, kind, line, record)
    for name, reason in rejected.items():
        _add(out, kind, LedgerLine(id=_safe(name), source=name, verdict="rejected", step="read", reason=reason), None)


def read_data_set(
    kind: ImportKind,
    path: str | Path,
    *,
    media: str | Path | None = None,
    fps: float = 1.0,
    scale: float | None = None,
    ignore_distortion: bool = False,
) -> tuple[list[ClipRecord], dict[str, str]]:
    """Returns the records of a data set, and the reason for each part of it that cannot be read.

    Args:
        kind: realestate10k: a folder of text files. colmap: scenes below the folder, each with a model in `sparse/0`,
            `sparse` or itself. nerfstudio (also DL3DV): scenes below the folder, each with a `transforms.json`.
        path: The folder.
        media: realestate10k: the folder of films or pictures. colmap: the pictures' folder in each scene, `images` by
            default.
        fps: colmap, nerfstudio: pictures a second.
        scale: colmap, nerfstudio: metres per unit; None: not known.
        ignore_distortion: nerfstudio: takes a distorted lens for a pinhole.

    Raises:
        FileNotFoundError: there is nothing of that kind.
        ValueError: a setting that the kind does not know.
    """
    path = Path(path)
    if kind == "realestate10k":
        _refuse(kind, fps=fps != 1.0, scale=scale is not None, ignore_distortion=ignore_distortion)
        report = read_realestate10k_folder(path, media)
        return report.records, report.rejected
    if kind == "colmap":
        _refuse(kind, ignore_distortion=ignore_distortion)
        pictures = str(media or "images")
        scenes = {_scene_of(model): model for model in _colmap_models(path)}
        return _read_scenes(
            path,
            "a COLMAP model",
            sorted(scenes),
            lambda name, scene: colmap_record(name, scenes[scene], scene / pictures, fps=fps, scale=scale),
        )
    _refuse(kind, media=media is not None)
    return _read_scenes(
        path,
        "transforms.json",
        [file.parent for file in sorted(path.rglob("transforms.json"))],
        lambda name, scene: nerfstudio_record(name, scene, fps=fps, scale=scale, ignore_distortion=ignore_distortion),
    )


def export_clips(data_set: str | Path, kind: ExportKind, folder: str | Path, height: int = 0, width: int = 0) -> int:
    """Writes every clip of a data set that has a camera; returns their number.

    Args:
        data_set: The folder of the manifest.
        kind: realestate10k: `ID.txt`; colmap: a text model in `ID/`.
        folder: Where to.
        height: colmap only: pixels of the pictures, which its intrinsics are in.
        width: Likewise.

    Raises:
        ValueError: the data set has no clip with a camera, or the size is missing or without effect.
    """
    records = [record for record in Manifest(data_set) if record.camera is not None]
    if not records:
        raise ValueError(f"data: expected a manifest with cameras, found none in {data_set}; curate some films first")
    if kind == "realestate10k":
        _refuse(kind, height=bool(height), width=bool(width))
        return len(write_realestate10k_folder(folder, records))
    if min(height, width) < 1:
        raise ValueError(f"height, width: expected the pictures' size in pixels for colmap, got {height} x {width}")
    for record in records:
        assert record.camera is not None
        write_colmap_text(Path(folder) / record.id, record.camera, height, width, record.files or None)
    return len(records)


def _add(out: str | Path, kind: str, line: LedgerLine, record: ClipRecord | None) -> None:
    with FilmFolder(Path(out) / "work" / f"{kind}-{line.id}") as folder:
        if line.id not in folder:
            folder.add(line, record)
        folder.finish()


def _read_scenes(
    root: Path, what: str, scenes: list[Path], read: Callable[[str, Path], ClipRecord]
) -> tuple[list[ClipRecord], dict[str, str]]:
    if not scenes:
        raise FileNotFoundError(f"path: expected {what} in or below {root}, found none; check the folder")
    records, rejected = [], {}
    for scene in scenes:
        name = _safe(scene.relative_to(root).as_posix()) if scene != root else _safe(root.resolve().name)
        try:
            records.append(read(name, scene))
        except (ValueError, OSError) as error:
            rejected[name] = str(error)
    return records, rejected


def _colmap_models(root: Path) -> list[Path]:
    cameras = [*root.rglob("cameras.bin"), *root.rglob("cameras.txt")]
    return sorted({file.parent for file in cameras if (file.parent / f"images{file.suffix}").is_file()}, reverse=True)


def _scene_of(model: Path) -> Path:
    """The folder that holds `sparse/0` or `sparse`; a model that lies elsewhere is its own scene."""
    if model.parent.name == "sparse":
        return model.parent.parent
    return model.parent if model.name == "sparse" else model


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).strip("_.-")[:150] or "clip"


def _refuse(kind: str, **given: bool) -> None:
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ValueError(f"{wrong[0]}: expected no such setting for {kind}, where it has no effect; leave it out")
