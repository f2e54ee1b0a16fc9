"""Trajectory files: RealEstate10K text and `.npy` arrays of c2w, read with care and written atomically."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry import se3
from model.geometry.camera import default_intrinsics
from model.geometry.trajectory import CameraTrajectory
from model.whole_file import whole_file

_NUMBERS_PER_LINE = 19  # timestamp, fx fy cx cy, k1 k2, 3x4 world-to-camera
_METRIC = "#unit=metre"  # the URL's fragment: other readers of the format take no notice of it
_MICROSECONDS_PER_POSE = 1e6 / 3  # a pose stands for 4 frames, 12 frames make a second


@dataclass(frozen=True, eq=False)
class RealEstate10KFile:
    """What a RealEstate10K text file says.

    Attributes:
        url: The video's.
        timestamps: Each pose's time in microseconds.
        trajectory: The path.
        is_metric: Whether the file says that its unit is the metre; the format itself has no unit.
    """

    url: str
    timestamps: tuple[int, ...]
    trajectory: CameraTrajectory
    is_metric: bool = False


def read_trajectory(path: str | Path, intrinsics: Float[Tensor, "4"] | None = None) -> CameraTrajectory:
    """Returns the path in a RealEstate10K `.txt` or a `.npy` of c2w, float32, as the file has it (not re-based).

    Args:
        path: The file; its suffix tells the format.
        intrinsics: The camera of a `.npy`, which holds none (`default_intrinsics` if not given).

    Raises:
        ValueError: The file cannot be read, is malformed, or its poses are not rigid motions; or intrinsics
            are given for a file that has its own.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".txt":
            if intrinsics is not None:
                raise ValueError(f"intrinsics: expected none, since {path} has its own, got {intrinsics.tolist()}")
            return read_realestate10k(path).trajectory
        case ".npy":
            return read_npy(path, intrinsics)
        case suffix:
            raise ValueError(f"{path}: expected a trajectory file ending in .txt or .npy, got suffix {suffix!r}")


def read_npy(path: str | Path, intrinsics: Float[Tensor, "4"] | None = None) -> CameraTrajectory:
    """Returns the path of a `.npy` of camera-to-world matrices, [f, 4, 4] or [f, 3, 4]; errors as `read_trajectory`."""
    try:
        # mapped, so that a header that promises more than the file holds is an error and not an allocation
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected a readable .npy array of numbers, got: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected one .npy array of real numbers, got {getattr(array, 'dtype', type(array))}")
    if array.ndim != 3 or array.shape[1:] not in {(4, 4), (3, 4)} or not len(array):
        raise ValueError(f"{path}: expected c2w of shape [f, 4, 4] or [f, 3, 4] with f >= 1, got {list(array.shape)}")
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
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a readable RealEstate10K text file, got: {error}") from error
    if len(lines[0].split()) > 1:
        raise ValueError(f"{path}: expected the video's URL in line 1, got {lines[0][:60]!r}; add that line")
    rows = [_parse_line(f"{path}, line {n}", line) for n, line in enumerate(lines[1:], start=2) if line.strip()]
    if not rows:
        raise ValueError(f"{path}: expected a URL, then lines of {_NUMBERS_PER_LINE} numbers, got no pose")
    table = torch.tensor(rows, dtype=torch.float64)
    _check_camera(str(path), table)
    w2c = _checked(f"{path} (world-to-camera)", table[:, 7:].unflatten(-1, (3, 4)))
    trajectory = CameraTrajectory(se3.inverse(w2c).float(), table[:, 1:5].float())
    url = lines[0].strip()
    timestamps = tuple(int(row[0]) for row in rows)
    return RealEstate10KFile(url.removesuffix(_METRIC), timestamps, trajectory, url.endswith(_METRIC))


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
    text = "\n".join(lines) + "\n"
    _write_atomically(Path(path), lambda file: file.write(text.encode()))


def write_npy(path: str | Path, trajectory: CameraTrajectory) -> None:
    """Writes the c2w matrices as a float32 array [f, 4, 4], whole or not at all; intrinsics are not kept."""
    c2w = trajectory.c2w.detach().cpu().float().numpy()
    _write_atomically(Path(path), lambda file: np.save(file, c2w, allow_pickle=False))


def _parse_line(where: str, line: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise ValueError(f"{where}: expected {_NUMBERS_PER_LINE} numbers, got: {error}") from error
    if len(numbers) != _NUMBERS_PER_LINE:
        raise ValueError(
            f"{where}: expected {_NUMBERS_PER_LINE} numbers (timestamp, fx fy cx cy, k1 k2, 3x4 world-to-camera), "
            f"got {len(numbers)}"
        )
    return numbers


def _check_camera(name: str, table: Tensor) -> None:
    if not torch.isfinite(table).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    focal, centre = table[:, 1:3], table[:, 3:5]
    if (focal <= 0).any() or (focal > 50).any() or (centre < -1).any() or (centre > 2).any():
        raise ValueError(
            f"{name}: expected fx fy cx cy as fractions of the width and height, got {table[0, 1:5].tolist()}; "
            "divide pixels by the image's width and height"
        )
    if table[:, 5:7].any():
        raise ValueError(f"{name}: expected k1 = k2 = 0, for a pinhole camera; undistort the frames first")


def _checked(name: str, pose: Float[Tensor, "f r 4"]) -> Float[Tensor, "f 4 4"]:
    """Returns the poses with the nearest exact rotations: text carries rounded ones."""
    raw = se3.from_rotation_translation(pose[:, :3, :3], pose[:, :3, 3])
    se3.check_poses(name, raw)
    return se3.from_rotation_translation(roma.special_procrustes(raw[:, :3, :3]), raw[:, :3, 3])


def _write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with whole_file(path) as partial, partial.open("wb") as file:
        write(file)
