"""Reads RealEstate10K folders (text files of poses; films or pictures) into the manifest, and writes their files."""

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.data.camera_checks import check_lens
from model.data.manifest import ClipRecord
from model.data.media import find_film, find_pictures, times_in_film
from model.data.scenes import scene_id
from model.geometry.trajectory_io import RealEstate10KFile, read_realestate10k, write_realestate10k

_MICROSECONDS = 1e6
_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/)([A-Za-z0-9_-]{6,20})(?:[&#?]|$)")


@dataclass(frozen=True)
class ReadReport:
    """The records that were read, and by id the reasons why others could not be read."""

    records: list[ClipRecord] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


def read_realestate10k_folder(
    poses: str | Path, media: str | Path | None = None, scale: float | None = None
) -> ReadReport:
    """Returns a record for every text file; a malformed file raises no error but is rejected with its reason.

    Args:
        poses: The folder of `NAME.txt`.
        media: The folder of films or pictures: `NAME.mp4` (or another film, whole or cut to the clip), `NAME/` with a
            picture for each time stamp (`TIMESTAMP.png`), either of them in a folder named by the YouTube id, or the
            whole `YOUTUBE_ID.mp4`. Without it a record's source is the URL, and there is nothing to train on.
        scale: Metres per unit of the files; the poses are multiplied by it. None: not known, except for files that
            declare metres (recorded episodes; exported clips whose scale is known).

    A recorded episode's prompt, `prompt` in `NAME.json`, becomes the caption.

    Raises:
        FileNotFoundError: there is no text file, or `media` is no folder.
    """
    if media is not None and not Path(media).is_dir():
        raise FileNotFoundError(f"media: expected a folder of films or pictures, found none at {media}; check the path")
    paths = sorted(Path(poses).glob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"poses: expected RealEstate10K text files, found no .txt in {poses}; check the folder")
    report, films = ReadReport(), None if media is None else Path(media).resolve()
    for path in paths:
        clip_id = scene_id("realestate10k", path.stem, path)
        try:
            file = read_realestate10k(path)
            record = _record(clip_id, path.stem, file, films, scale)
            report.records.append(dataclasses.replace(record, caption=_prompt(path.with_suffix(".json"))))
        except (ValueError, OSError) as error:
            report.rejected[clip_id] = str(error)
    return report


def write_realestate10k_folder(folder: str | Path, records: Iterable[ClipRecord]) -> list[Path]:
    """Writes `ID.txt` for every record with a camera, and returns the files; metric ones declare metres."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for record in records:
        if record.camera is None:
            continue
        path = Path(folder) / f"{record.id}.txt"
        timestamps = (record.times * _MICROSECONDS).round().long().tolist()
        url = os.fsencode(record.provenance.get("url", record.source)).decode("utf-8", "backslashreplace")
        is_metric = record.scale is not None
        write_realestate10k(path, record.camera, "_".join(url.split()), timestamps, is_metric=is_metric)
        written.append(path)
    return written


def _record(clip_id: str, name: str, file: RealEstate10KFile, media: Path | None, scale: float | None) -> ClipRecord:
    check_lens(name, file.trajectory.intrinsics)
    if file.is_metric and scale not in (None, 1.0):
        raise ValueError(f"scale: expected 1 for a path that is in metres already, got {scale}; import it by itself")
    scale = 1.0 if file.is_metric else scale
    record = ClipRecord(
        id=clip_id,
        source=file.url,
        times=torch.tensor(file.timestamps, dtype=torch.float64) / _MICROSECONDS,
        camera=file.trajectory if scale is None else file.trajectory.scaled(scale),
        scale=scale,
        provenance={"reader": "realestate10k", "url": file.url},
    )
    return record if media is None else _with_media(record, name, file, media)


def _prompt(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected the prompts of an episode, got {error}; remove the file") from error
    prompt = stored.get("prompt", "") if isinstance(stored, dict) else None
    if not isinstance(prompt, str):
        raise ValueError(f"{path}: expected the prompts of an episode, got another file; remove it")
    return prompt


def _with_media(record: ClipRecord, name: str, file: RealEstate10KFile, media: Path) -> ClipRecord:
    video = _YOUTUBE_ID.search(file.url)
    folders = [media, media / video[1]] if video else [media]
    for folder in folders:
        if (folder / name).is_dir():
            stamps = [str(stamp) for stamp in file.timestamps]
            return dataclasses.replace(record, source=str(folder / name), files=find_pictures(folder / name, stamps))
    films = [find_film(folder, name) for folder in folders] + ([find_film(media, video[1])] if video else [])
    for film in films:
        if film is not None:
            return dataclasses.replace(record, source=str(film), times=times_in_film(film, record.times))
    raise ValueError(
        f"media: expected {name}.mp4 or {name}/ with pictures in {media}{f' or {video[1]}' if video else ''}, found "
        "none; get the film, or leave media out to import the path alone"
    )
