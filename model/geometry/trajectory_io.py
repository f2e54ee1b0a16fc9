"""Trajectory files: RealEstate10K text and `.npy` arrays of c2w, checked when read and written atomically."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry import se3
from model.geometry.camera import default_intrinsics
from model.geometry.trajectory import CameraTrajectory
from model.whole_file import whole_file, write_text

_MOST_POSES = 2**17  # 73 minutes of 30 frames a second
_MOST_BYTES = 2**26
_MOST_URL = 4096
_FARTHEST = 1e9  # units from the origin; float32 squares it without overflow
_NUMBERS_PER_LINE = 19  # timestamp, fx fy cx cy, k1 k2, 3x4 world-to-camera
_METRIC = "#unit=metre"  # the URL's fragment: other readers of the format ignore it
_MICROSECONDS_PER_POSE = 1e6 / 3  # a pose stands for 4 frames, 12 frames make a second


@dataclass(frozen=True, eq=False)
class RealEstate10KFile:
    """Contents of a RealEstate10K text file.

    Attributes:
        url: The video's URL.
        timestamps: Each pose's time in microseconds.
        trajectory: The path.
        is_metric: Whether the file says that its unit is the metre; the format itself has no unit.
    """

    url: str
    timestamps: tuple[int, ...]
    trajectory: CameraTrajectory
    is_metric: bool = False


def read_trajectory(
    path: str | Path,
    intrinsics: Float[Tensor, "4"] | None = None,
    *,
    seconds_per_pose: float | None = None,
    fps: float | None = None,
) -> CameraTrajectory:
    """Returns the path in a RealEstate10K `.txt` or a `.npy` of c2w, float32, as the file has it (not re-based).

    Args:
        path: The file; its suffix says the format.
        intrinsics: The camera of a `.npy`, which holds none (`default_intrinsics` if not given).
        seconds_per_pose: Resample the path to this time between poses, by the text's timestamps or by `fps`. A file
            without times (a `.npy`; a text whose timestamps are all the same) is not resampled: a row is a pose.
        fps: Rows per second, in place of the timestamps.

    Raises:
        ValueError: The file cannot be read, is malformed or too long, its poses are not rigid motions, or its
            timestamps do not increase where they are needed; or intrinsics are given for a file that has its own, or
            fps without seconds_per_pose.
    """
    if fps is not None and seconds_per_pose is None:
        raise ValueError(f"fps: expected seconds_per_pose beside it, got {fps} alone; leave it out")
    if seconds_per_pose is None:
        return _read(Path(path), intrinsics)[0]
    trajectory, seconds = read_timed_trajectory(path, intrinsics, fps=fps)
    return trajectory if seconds is None else trajectory.in_time(seconds, seconds_per_pose)


def read_timed_trajectory(
    path: str | Path, intrinsics: Float[Tensor, "4"] | None = None, *, fps: float | None = None
) -> tuple[CameraTrajectory, Float[Tensor, " f"] | None]:
    """Returns the path in a file and the seconds of its poses, which increase; None if the file has no times.

    Arguments and errors are those of `read_trajectory`.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps: expected a positive number of rows a second, got {fps}")
    trajectory, timestamps = _read(Path(path), intrinsics)
    if fps is not None:
        return trajectory, torch.arange(len(trajectory), dtype=torch.float64) / fps
    if len(set(timestamps)) < 2:
        return trajectory, None
    for before, after in itertools.pairwise(timestamps):
        if before >= after:
            raise ValueError(
                f"{path}: expected timestamps that increase, got {before} and then {after}; sort the rows, or give fps"
            )
    first = timestamps[0]
    return trajectory, torch.tensor([time - first for time in timestamps], dtype=torch.float64) / 1e6


def _read(path: Path, intrinsics: Float[Tensor, "4"] | None) -> tuple[CameraTrajectory, tuple[int, ...]]:
    """The path, and its timestamps in microseconds if it has any."""
    match path.suffix.lower():
        case ".txt":
            if intrinsics is not None:
                raise ValueError(f"intrinsics: expected none, since {path} has its own, got {intrinsics.tolist()}")
            contents = read_realestate10k(path)
            return contents.trajectory, contents.timestamps
        case ".npy":
            return read_npy(path, intrinsics), ()
        case suffix:
            raise ValueError(f"{path}: expected a trajectory file ending in .txt or .npy, got suffix {suffix!r}")


def read_npy(path: str | Path, intrinsics: Float[Tensor, "4"] | None = None) -> CameraTrajectory:
    """Returns the path of a `.npy` of camera-to-world matrices, [f, 4, 4] or [f, 3, 4]; errors as `read_trajectory`."""
    _check_file(path, math.inf)
    try:
        # memory-mapped: a header that declares more than the file holds is an error, not an allocation
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        OSError,
        ValueError,
        EOFError,
        OverflowError,
        MemoryError,
        SyntaxError,
        RecursionError,
        TokenError,
    ) as error:
        raise ValueError(f"{path}: expected a readable .npy array of numbers, got: {_short(error)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected one .npy array of real numbers, got {getattr(array, 'dtype', type(array))}")
    if array.ndim != 3 or array.shape[1:] not in {(4, 4), (3, 4)} or not len(array):
        raise ValueError(f"{path}: expected c2w of shape [f, 4, 4] or [f, 3, 4] with f >= 1, got {list(array.shape)}")
    _check_length(path, len(array))
    c2w = torch.from_numpy(np.array(array, dtype=np.float64))
    if c2w.shape[1] == 4:
        se3.check_poses(str(path), c2w)
    intrinsics = default_intrinsics() if intrinsics is None else intrinsics
    return CameraTrajectory(_checked(str(path), c2w).float(), intrinsics.expand(len(c2w), 4))


def read_realestate10k(path: str | Path) -> RealEstate10KFile:
    """Returns the contents of a RealEstate10K text file; errors as `read_trajectory`.

    Source: the data set's format: a URL, then a line per frame: timestamp, fx fy cx cy normalised, k1 k2,
    and the 3x4 world-to-camera matrix by rows.
    """
    _check_file(path, _MOST_BYTES)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a readable RealEstate10K text file, got: {error}") from error
    if len(lines[0].split(maxsplit=1)) > 1 or len(lines[0]) > _MOST_URL:
        raise ValueError(f"{path}: expected the video's URL in line 1, got {lines[0][:60]!r}; add that line")
    numbered = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if not numbered:
        raise ValueError(f"{path}: expected a URL, then lines of {_NUMBERS_PER_LINE} numbers, got no pose")
    _check_length(path, len(numbered))
    rows = [_parse_line(f"{path}, line {number}", line) for number, line in numbered]
    table = torch.tensor([numbers for _, numbers in rows], dtype=torch.float64)
    _check_camera(str(path), table)
    w2c = _checked(f"{path} (world-to-camera)", table[:, 6:].unflatten(-1, (3, 4)))
    c2w = _near(str(path), se3.inverse(w2c))
    trajectory = CameraTrajectory(c2w.float(), table[:, :4].float())
    url = lines[0].strip()
    return RealEstate10KFile(
        url.removesuffix(_METRIC), tuple(time for time, _ in rows), trajectory, url.endswith(_METRIC)
    )


def write_realestate10k(
    path: str | Path,
    trajectory: CameraTrajectory,
    url: str = "",
    timestamps: Sequence[int] | None = None,
    *,
    is_metric: bool = False,
) -> None:
    """Writes a RealEstate10K text file, whole or not at all.

    Args:
        path: The file; one that exists is replaced.
        trajectory: The path; its matrices are inverted, for the format holds world-to-camera.
        url: The first line.
        timestamps: Microseconds of each pose; without them, a third of a second apart (4 frames at 12 a second).
        is_metric: Say in the first line that the unit is the metre (`#unit=metre` after the URL).

    Raises:
        ValueError: The URL has white space in it, or there is not one timestamp for each pose.
    """
    if len(url.split()) > 1 or url != url.strip():
        raise ValueError(f"url: expected no white space, got {url!r}")
    if timestamps is None:
        timestamps = [round(index * _MICROSECONDS_PER_POSE) for index in range(len(trajectory))]
    if len(timestamps) != len(trajectory):
        raise ValueError(f"timestamps: expected {len(trajectory)}, one for each pose, got {len(timestamps)}")
    w2c = se3.inverse(trajectory.c2w.double())[:, :3].flatten(1).tolist()
    lines = [url + _METRIC if is_metric else url]
    for time, camera, row in zip(timestamps, trajectory.intrinsics.tolist(), w2c, strict=True):
        lines.append(f"{time} " + " ".join(f"{number:.12g}" for number in (*camera, 0, 0, *row)))
    write_text(path, "\n".join(lines) + "\n")


def write_npy(path: str | Path, trajectory: CameraTrajectory) -> None:
    """Writes the c2w matrices as a float32 array [f, 4, 4], whole or not at all; intrinsics are not kept."""
    c2w = trajectory.c2w.detach().cpu().float().numpy()
    with whole_file(path) as partial, partial.open("wb") as file:  # np.save itself would add a suffix to the name
        np.save(file, c2w, allow_pickle=False)


def _check_file(path: str | Path, most_bytes: float) -> None:
    """Raises if the file is not regular (a pipe may never end) or too large, before it is read."""
    try:
        is_file, size = Path(path).is_file(), Path(path).stat().st_size
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a readable trajectory file, got: {error}") from error
    if not is_file:
        raise ValueError(f"{path}: expected a readable trajectory file, got no regular file; check the path")
    if size > most_bytes:
        raise ValueError(f"{path}: expected at most {most_bytes} bytes of trajectory, got {size}; cut it into parts")


def _check_length(path: str | Path, length: int) -> None:
    if length > _MOST_POSES:
        raise ValueError(f"{path}: expected at most {_MOST_POSES} poses, got {length}; cut it into parts")


def _parse_line(where: str, line: str) -> tuple[int, list[float]]:
    """The timestamp, and the other numbers."""
    words = line.split(maxsplit=_NUMBERS_PER_LINE)
    if len(words) != _NUMBERS_PER_LINE:
        found = f"{len(words)}" if len(words) < _NUMBERS_PER_LINE else "more"
        if len(words) == 1:
            found = f"one word: {line[:40]!r}"
        raise ValueError(
            f"{where}: expected {_NUMBERS_PER_LINE} numbers (timestamp, fx fy cx cy, k1 k2, 3x4 world-to-camera), "
            f"got {found}"
        )
    time, *numbers = [_number(where, word) for word in words]
    if not time.is_integer() or abs(time) >= 2**62:
        raise ValueError(f"{where}: expected a timestamp in whole microseconds, got {words[0][:40]}")
    return int(words[0]) if words[0].lstrip("+-").isdecimal() else int(time), numbers


def _number(where: str, word: str) -> float:
    """Stricter than Python's `float`, which also reads 1_0 and digits of other scripts."""
    try:
        if "_" in word or not word.isascii():
            raise ValueError(f"{word[:40]!r}")
        return float(word)
    except ValueError as error:
        raise ValueError(f"{where}: expected {_NUMBERS_PER_LINE} numbers, got: {_short(error)}") from error


def _short(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__


def _check_camera(name: str, table: Tensor) -> None:
    if not torch.isfinite(table).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    focal, centre = table[:, :2], table[:, 2:4]
    if (focal <= 0).any() or (focal > 50).any() or (centre < -1).any() or (centre > 2).any():
        raise ValueError(
            f"{name}: expected fx fy cx cy as fractions of the width and height, got {table[0, :4].tolist()}; "
            "divide pixels by the image's width and height"
        )
    if table[:, 4:6].any():
        raise ValueError(f"{name}: expected k1 = k2 = 0, for a pinhole camera; undistort the frames first")


def _checked(name: str, pose: Float[Tensor, "f r 4"]) -> Float[Tensor, "f 4 4"]:
    """Returns the poses with the nearest exact rotations: text carries rounded ones."""
    raw = se3.from_rotation_translation(pose[:, :3, :3], pose[:, :3, 3])
    se3.check_poses(name, raw)
    return _near(name, se3.from_rotation_translation(roma.special_procrustes(raw[:, :3, :3]), raw[:, :3, 3]))


def _near(name: str, poses: Float[Tensor, "f 4 4"]) -> Float[Tensor, "f 4 4"]:
    """Returns the poses; raises if a translation is too large for float32."""
    farthest = float(poses[:, :3, 3].abs().max())
    if not farthest <= _FARTHEST:
        raise ValueError(f"{name}: expected translations up to {_FARTHEST:g}, got {farthest:g}; use a larger unit")
    return poses
