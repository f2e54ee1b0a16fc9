"""RealEstate10K folders: text files of poses, beside films or folders of pictures; into the manifest and back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.data.manifest import ClipRecord
from model.data.scenes import scene_id
from model.geometry.trajectory_io import RealEstate10KFile, read_realestate10k, write_realestate10k

FILM_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class ReadReport:
    """What a reader found: the records, and why each of the others was left out, by id."""

    records: list[ClipRecord] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)


def read_realestate10k_folder(poses: str | Path, media: str | Path | None = None) -> ReadReport:
    """Returns a record for every text file; a malformed one is rejected with its reason, never raised.

    Args:
        poses: The folder of `NAME.txt`.
        media: The folder of `NAME.mp4` (or another film) or of folders `NAME/` with a picture for each time stamp
            (`TIMESTAMP.png`); without it, or without its film, a record's source is the URL.

    Raises:
        FileNotFoundError: there is no text file.
    """
    paths = sorted(Path(poses).glob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"poses: expected RealEstate10K text files, found no .txt in {poses}; check the folder")
    report = ReadReport()
    for path in paths:
        clip_id = scene_id("realestate10k", path.stem, path)
        try:
            file = read_realestate10k(path)
            report.records.append(_record(clip_id, path.stem, file, Path(media).resolve() if media else None))
        except (ValueError, OSError) as error:
            report.rejected[clip_id] = str(error)
    return report


def write_realestate10k_folder(folder: str | Path, records: Iterable[ClipRecord]) -> list[Path]:
    """Writes `ID.txt` for every record that has a camera, and returns the files; metres if the record is metric."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for record in records:
        if record.camera is None:
            continue
        path = Path(folder) / f"{record.id}.txt"
        timestamps = (record.times * _MICROSECONDS).round().long().tolist()
        url = record.provenance.get("url", record.source)
        write_realestate10k(path, record.camera, "_".join(url.split()), timestamps)
        written.append(path)
    return written


def _record(clip_id: str, name: str, file: RealEstate10KFile, media: Path | None) -> ClipRecord:
    source, files = _media(name, file, media)
    return ClipRecord(
        id=clip_id,
        source=source or file.url,
        times=torch.tensor(file.timestamps, dtype=torch.float64) / _MICROSECONDS,
        files=files,
        camera=file.trajectory,
        provenance={"reader": "realestate10k", "url": file.url},
    )


def _media(name: str, file: RealEstate10KFile, media: Path | None) -> tuple[str, tuple[str, ...]]:
    if media is None:
        return "", ()
    pictures = {path.stem: path.name for path in (media / name).glob("*") if path.suffix.lower() in PICTURE_SUFFIXES}
    if pictures:
        missing = [stamp for stamp in file.timestamps if str(stamp) not in pictures]
        if missing:
            raise ValueError(
                f"media: expected a picture for every time stamp, {len(missing)} are missing: {missing[0]}"
            )
        return str(media / name), tuple(pictures[str(stamp)] for stamp in file.timestamps)
    for suffix in FILM_SUFFIXES:
        if (media / f"{name}{suffix}").is_file():
            return str(media / f"{name}{suffix}"), ()
    return "", ()
