"""The manifest of a data set: one record for each clip, with or without a camera.

A folder holds `manifest.jsonl` (a line per clip) and `cameras/ID.safetensors` (times, and poses and intrinsics if
known). Arrays are written before the line that names them, so a killed run leaves complete records only.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory
from model.tensor_file import load_tensors, save_tensors
from model.whole_file import whole_file

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_LARGEST = 1e300  # of a number, which is not infinite and not NaN
_KEYS = {"id", "source", "files", "scale", "caption", "scores", "provenance"}


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipRecord:
    """One clip.

    Attributes:
        id: Names the clip and its file: letters, digits, `_`, `-`, `.`.
        source: The film's path or URL, or the folder of its pictures.
        times: Seconds of every frame in the source, increasing, float64: the span, also at a variable rate.
        files: The picture of every frame inside `source`; empty for a film.
        camera: The pose and lens of every frame; None for an unlabelled clip.
        scale: Factor that turned the source's translations into metres; None if they are not metric.
        caption: Text that describes the clip.
        scores: What the curation's steps measured.
        provenance: Reader or estimators that made the record, and their settings.

    Raises:
        ValueError: the fields contradict each other.
    """

    id: str
    source: str
    times: Float[Tensor, " f"]
    files: tuple[str, ...] = ()
    camera: CameraTrajectory | None = None
    scale: float | None = None
    caption: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: expected letters, digits, '_', '-' and '.', got {self.id!r}; rename the clip")
        is_float64 = self.times.dtype == torch.float64
        if not is_float64 or self.times.ndim != 1 or not len(self.times) or not torch.isfinite(self.times).all():
            raise ValueError(f"times: expected finite float64 seconds of at least one frame, got {self.times!r}")
        if (self.times.diff() <= 0).any():
            raise ValueError(f"times: expected increasing seconds in clip {self.id}; sort its frames")
        for name, length in (("camera", len(self.camera or self.times)), ("files", len(self.files or self.times))):
            if length != len(self.times):
                raise ValueError(f"{name}: expected {len(self.times)}, one for each frame of {self.id}, got {length}")
        if self.camera is not None:
            se3.check_poses(f"camera of {self.id}", self.camera.c2w)
            if not (torch.isfinite(self.camera.intrinsics).all() and (self.camera.intrinsics[:, :2] > 0).all()):
                raise ValueError(f"camera of {self.id}: expected finite intrinsics with fx, fy > 0; mend the camera")
        if self.scale is not None and (self.camera is None or not 0 < self.scale < math.inf):
            raise ValueError(f"scale: expected a positive number and a camera in {self.id}, got {self.scale}")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[float, float]:
        """Seconds of the first and the last frame in the source."""
        return float(self.times[0]), float(self.times[-1])


class Manifest:
    """A manifest's folder; records are appended one by one and survive a kill at any moment.

    Only one process may write. A killed writer's incomplete last line is ignored, and removed by the next append.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens the folder; nothing is written before the first record.

        Raises:
            ValueError: its manifest is malformed.
        """
        self.folder = Path(folder)
        self._ids = [line["id"] for line in self._lines()]
        if len(set(self._ids)) < len(self._ids):
            twice = next(name for name in self._ids if self._ids.count(name) > 1)
            raise ValueError(f"{self._path}: expected different ids, got {twice!r} twice; curate again")

    @property
    def ids(self) -> tuple[str, ...]:
        """The clips' ids in the order of writing."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[ClipRecord]:
        """Yields the records in the order of writing.

        Raises:
            ValueError: a record's arrays are missing or broken.
        """
        for line in self._lines():
            yield self._record(line)

    def append(self, record: ClipRecord) -> None:
        """Adds a record; it is on the disk when this returns.

        Raises:
            ValueError: the manifest has a clip of that id.
        """
        if record.id in self._ids:
            raise ValueError(f"id: expected a new clip, got {record.id!r} twice in {self.folder}; rename one")
        self._save_arrays(record)
        with self._path.open("ab+") as file:
            file.truncate(self._whole_bytes())
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
        self._ids.append(record.id)

    def replace(self, records: Iterable[ClipRecord]) -> None:
        """Replaces all records at once, and then deletes the arrays of records that are gone."""
        records = list(records)
        if len({record.id for record in records}) != len(records):
            raise ValueError("records: expected different ids, got one twice; rename one")
        for record in records:
            self._save_arrays(record)
        with whole_file(self._path) as partial:
            partial.write_bytes(b"".join(map(_line, records)))
        self._ids = [record.id for record in records]
        kept = {self._arrays_path(record_id) for record_id in self._ids}
        for path in set(self._path.parent.glob("cameras/*.safetensors")) - kept:
            path.unlink()

    @property
    def _path(self) -> Path:
        return self.folder / "manifest.jsonl"

    def _arrays_path(self, record_id: str) -> Path:
        return self.folder / "cameras" / f"{record_id}.safetensors"

    def _whole_bytes(self) -> int:
        return self._path.read_bytes().rfind(b"\n") + 1 if self._path.exists() else 0

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        if not self._path.is_file():  # reading a pipe would block
            raise ValueError(f"{self._path}: expected a file, got something else; curate again")
        lines = self._path.read_bytes()[: self._whole_bytes()].split(b"\n")[:-1]  # names may contain other line ends
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line.decode())
                _check_line(values)
            except (ValueError, RecursionError) as error:
                where = f"{self._path}, line {number}"
                raise ValueError(
                    f"{where}: expected a clip as a JSON object, got: {str(error)[:200]}; curate again"
                ) from error
            yield values

    def _save_arrays(self, record: ClipRecord) -> None:
        arrays = {"times": record.times}
        if record.camera is not None:
            arrays |= {"c2w": record.camera.c2w, "intrinsics": record.camera.intrinsics}
        arrays = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
        save_tensors(self._arrays_path(record.id), arrays)

    def _record(self, line: dict[str, Any]) -> ClipRecord:
        path = self._arrays_path(line["id"])
        try:
            arrays, _ = load_tensors(path)
            _check_arrays(arrays)
            camera = CameraTrajectory(arrays["c2w"], arrays["intrinsics"]) if "c2w" in arrays else None
            return ClipRecord(times=arrays["times"], camera=camera, **(line | {"files": tuple(line["files"])}))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: expected the arrays of clip {line['id']}, got: {error}; curate it again"
            ) from error


def _check_line(values: object) -> None:
    """Checks names and types before they are used: an id becomes the name of a file."""
    if not isinstance(values, dict) or set(values) != _KEYS:
        raise ValueError(f"no object with {sorted(_KEYS)}")
    if not isinstance(values["id"], str) or not _ID.fullmatch(values["id"]):
        raise ValueError(f"id {values['id']!r}, which is no name of letters, digits, '_', '-' and '.'")
    scores, provenance = values["scores"], values["provenance"]
    are_right = {
        "source": isinstance(values["source"], str),
        "files": isinstance(values["files"], list) and all(isinstance(file, str) for file in values["files"]),
        "scale": values["scale"] is None or _is_number(values["scale"]),
        "caption": isinstance(values["caption"], str),
        "scores": isinstance(scores, dict) and all(map(_is_number, scores.values())),
        "provenance": isinstance(provenance, dict) and all(isinstance(text, str) for text in provenance.values()),
    }
    wrong = [name for name, is_right in are_right.items() if not is_right]
    if wrong:
        raise ValueError(f"{wrong[0]} {str(values[wrong[0]])[:80]!r}, which is of another type")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _check_arrays(arrays: Mapping[str, Tensor]) -> None:
    frames = arrays["times"].shape[:1] if "times" in arrays else ()
    expected = {"times": frames} | ({"c2w": (*frames, 4, 4), "intrinsics": (*frames, 4)} if "c2w" in arrays else {})
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    if found != expected or not all(array.is_floating_point() for array in arrays.values()):
        raise ValueError(f"arrays {found}")


def _line(record: ClipRecord) -> bytes:
    values = {key: getattr(record, key) for key in sorted(_KEYS)}
    values |= {"scores": dict(record.scores), "provenance": dict(record.provenance)}
    # bytes of a file's name that are not UTF-8 come as lone surrogates, which JSON can only write escaped
    return json.dumps(values, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
