"""Imports data sets of other formats into the work folder (and so into the manifest), and exports the manifest."""

import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import MISSING

from model.curation.film_folder import FilmFolder
from model.curation.ledger import LedgerLine
from model.data.colmap_model import colmap_record
from model.data.manifest import ClipRecord, Manifest
from model.data.nerfstudio import nerfstudio_record
from model.data.realestate10k import read_realestate10k_folder, write_realestate10k_folder
from model.data.scenes import Scene, colmap_scenes, nerfstudio_scenes, scene_id
from model.geometry.colmap_text import write_colmap_text

ImportKind = Literal["realestate10k", "colmap", "nerfstudio"]
ExportKind = Literal["realestate10k", "colmap"]

_Read = tuple[LedgerLine, ClipRecord | None]
_WHAT = {"colmap": "a COLMAP model", "nerfstudio": "transforms.json"}


def import_clips(out: str | Path, kind: ImportKind, records: Iterable[ClipRecord], rejected: dict[str, str]) -> None:
    """Adds clips that already have a camera, and a ledger line for each clip that could not be read.

    Repeating an import changes nothing, except that rejected clips are tried again.

    Args:
        out: The data set's folder.
        kind: Where the clips come from.
        records: The clips that were read.
        rejected: By id, why each of the others could not be read.

    Raises:
        ValueError: a clip was imported before with other settings; then nothing is written.
    """
    lines: list[_Read] = [(LedgerLine(id=r.id, source=r.source, verdict="kept", step="read"), r) for r in records]
    lines += [
        (LedgerLine(id=name, source=name, verdict="rejected", step="read", reason=reason), None)
        for name, reason in rejected.items()
    ]
    _refuse_changes(Path(out), kind, lines)
    for line, record in lines:
        _add(_folder(out, kind, line.id), line, record)


@dataclass(kw_only=True)
class DataSetConfig:
    """A data set of another format, and how it is read.

    Attributes:
        kind: realestate10k: a folder of text files. colmap: scenes below the folder, each with a model in `sparse/0`,
            `sparse` or the scene itself. nerfstudio (also DL3DV): scenes below it, each with a `transforms.json`.
        path: The folder.
        media: realestate10k: the folder of films or pictures. colmap, nerfstudio: the pictures' folder in each scene;
            by default `images`, or where the file says.
        fps: colmap, nerfstudio: pictures per second.
        scale: Metres per unit; None: not known, unless a file declares metres.
        ignore_distortion: nerfstudio: treats a distorted lens as a pinhole.
    """

    kind: str = MISSING
    path: str = MISSING
    media: str | None = None
    fps: float = 1.0
    scale: float | None = None
    ignore_distortion: bool = False


def read_data_set(config: DataSetConfig) -> tuple[list[ClipRecord], dict[str, str]]:
    """Returns the records of a data set, and the reason for each part of it that cannot be read.

    Raises:
        FileNotFoundError: there is no data of that kind.
        ValueError: a setting has no effect for that kind, or is out of its range.
    """
    kind, path, scale, ignore_distortion = config.kind, Path(config.path), config.scale, config.ignore_distortion
    for name, number in (("fps", config.fps), ("scale", 1.0 if scale is None else scale)):
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a positive number, got {number}; leave it out if it is not known")
    if kind == "realestate10k":
        _refuse(kind, fps=config.fps != 1.0, ignore_distortion=ignore_distortion)
        report = read_realestate10k_folder(path, config.media, scale)
        return report.records, report.rejected
    timing: dict[str, Any] = {"fps": config.fps, "scale": scale}
    if kind == "colmap":
        _refuse(kind, ignore_distortion=ignore_distortion)
        pictures = config.media or "images"
        return _read_scenes(
            kind,
            path,
            colmap_scenes(path),
            lambda name, scene: colmap_record(name, scene.only_model(), scene.folder / pictures, **timing),
        )
    settings = {**timing, "media": config.media, "ignore_distortion": ignore_distortion}
    return _read_scenes(
        kind,
        path,
        nerfstudio_scenes(path),
        lambda name, scene: nerfstudio_record(name, scene.folder, **settings),
    )


def export_clips(data_set: str | Path, kind: ExportKind, folder: str | Path, height: int = 0, width: int = 0) -> int:
    """Writes every clip of a data set that has a camera; returns their number.

    Args:
        data_set: The folder of the manifest.
        kind: realestate10k: `ID.txt`; colmap: a text model in `ID/`.
        folder: Where the files go.
        height: colmap only: the pictures' height in pixels, in which its intrinsics are given.
        width: Likewise.

    Raises:
        ValueError: the data set has no clip with a camera, or the size is missing or has no effect.
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


def _folder(out: str | Path, kind: str, clip_id: str) -> FilmFolder:
    return FilmFolder(Path(out) / "work" / f"{kind}-{clip_id}")


def _add(folder: FilmFolder, line: LedgerLine, record: ClipRecord | None) -> None:
    if folder.is_started and not folder.records():
        shutil.rmtree(folder.folder)  # it was rejected, or the process was killed before its line was complete
    with folder:
        if line.id not in folder:
            folder.add(line, record)
        folder.finish()


def _refuse_changes(out: Path, kind: str, lines: list[_Read]) -> None:
    """Raises if the import would change a clip that exists already."""
    changes = []
    for line, record in lines:
        folder = _folder(out, kind, line.id)
        known = folder.records() if folder.is_started else []
        if known and (found := _changes(known[0], record, line.reason)):
            changes.append(f"{line.id}: {'; '.join(found)}")
    if changes:
        raise ValueError(
            f"out: expected the settings that {out} was begun with, got others for {len(changes)} of its clips: "
            f"{changes[0]}; name another folder"
        )


def _changes(known: ClipRecord, record: ClipRecord | None, reason: str) -> list[str]:
    """The differences between a clip in the data set and the clip that was read now."""
    if record is None:
        return [f"was kept, is rejected: {reason}"]
    names = ("source", "scale", "files", "provenance")
    changes = [
        f"{name} was {_short(getattr(known, name))}, is {_short(getattr(record, name))}"
        for name in names
        if getattr(known, name) != getattr(record, name)
    ]
    if len(known) != len(record) or not torch.equal(known.times, record.times):
        changes.append(
            f"its {len(known)} frames lasted {known.times[-1]:g} s, its {len(record)} last {record.times[-1]:g} s"
        )
    assert known.camera is not None and record.camera is not None
    if not changes and not (
        torch.equal(known.camera.c2w, record.camera.c2w)
        and torch.equal(known.camera.intrinsics, record.camera.intrinsics)
    ):
        changes.append("its camera differs")
    return changes


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_scenes(
    kind: str, root: Path, scenes: list[Scene], read: Callable[[str, Scene], ClipRecord]
) -> tuple[list[ClipRecord], dict[str, str]]:
    if not scenes:
        raise FileNotFoundError(f"path: expected {_WHAT[kind]} in or below {root}, found none; check the folder")
    records, rejected = [], {}
    for scene in scenes:
        clip_id = scene_id(kind, scene.name, *scene.files)
        try:
            records.append(read(clip_id, scene))
        except (ValueError, OSError) as error:
            rejected[clip_id] = str(error)
    return records, rejected


def _refuse(kind: str, **given: bool) -> None:
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ValueError(f"{wrong[0]}: expected no such setting for {kind}, where it has no effect; leave it out")
