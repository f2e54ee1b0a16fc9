"""nerfstudio's `transforms.json` (also DL3DV's and instant-ngp's): OpenGL cameras into the manifest."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model.data.camera_checks import Size, check_one_camera, natural_order, picture_sizes
from model.data.manifest import ClipRecord
from model.data.media import find_pictures
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

# nerfstudio's and instant-ngp's names; rolling_shutter: the rows of a picture have different poses
_DISTORTION = re.compile("k[1-6]|p[1-6]|s[1-4]|distortion_params|rolling_shutter")
_NO_PINHOLE = re.compile("fisheye|ftheta|latlong|equirect|ortho|omni|panoram|spherical|vr180", re.IGNORECASE)
_PINHOLES = {"OPENCV", "FULL_OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"}

_Camera = dict[str, Any]


def nerfstudio_record(
    clip_id: str,
    path: str | Path,
    *,
    media: str | None = None,
    fps: float = 1.0,
    scale: float | None = None,
    ignore_distortion: bool = False,
) -> ClipRecord:
    """Returns the record of a `transforms.json`; its frames are a film in the natural order of their names.

    Axes are turned from OpenGL's (x right, y up, z back) to ours; the world stays as the file has it.

    Args:
        clip_id: The record's id.
        path: The file, or its folder.
        media: The scene's picture folder, in place of the one that the file names (`images_4`).
        fps: Pictures per second.
        scale: Metres per unit of the file; the poses are multiplied by it. None: not known.
        ignore_distortion: Treats a distorted lens as a pinhole and records that in the provenance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is malformed, its lens is distorted or a fisheye, or pictures are missing.
    """
    path = Path(path) / "transforms.json" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected nerfstudio's transforms.json, found none; check the folder")
    folder = path.resolve().parent
    with _malformed(path):
        frames = _frames(path)
        c2w, is_distorted = _poses(str(path), frames), any([_check_kind(frame) for frame in frames])
    names = [frame["file_path"] for frame in frames]
    files = find_pictures(folder, names, media)
    stored = picture_sizes(folder, files)
    named = stored if media is None or not _in_pixels(frames) else picture_sizes(folder, find_pictures(folder, names))
    with _malformed(path):
        sizes = [_size(frame, picture) for frame, picture in zip(frames, named, strict=True)]
        rows = [_intrinsics(frame, size) for frame, size in zip(frames, sizes, strict=True)]
        lenses = torch.tensor(rows, dtype=torch.float64)
    check_one_camera(str(path), lenses, files, stored, sizes)
    if is_distorted and not ignore_distortion:
        raise ValueError(f"{path}: expected a lens without distortion; undistort the frames or set ignore_distortion")
    camera = CameraTrajectory(c2w, lenses)
    camera = (camera if scale is None else camera.scaled(scale)).to(dtype=torch.float32)
    return ClipRecord(
        id=clip_id,
        source=str(folder),
        times=torch.arange(len(frames), dtype=torch.float64) / fps,
        files=files,
        camera=camera,
        scale=scale,
        provenance={"reader": "nerfstudio"} | ({"distortion": "ignored"} if is_distorted else {}),
    )


@contextmanager
def _malformed(path: Path) -> Iterator[None]:
    """Turns any error that a malformed file causes into one ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        found = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(f"{path}: expected nerfstudio's transforms, got {found}; export it again") from error


def _frames(path: Path) -> list[_Camera]:
    """The frames in natural order, each with the values that the file gives for all; null values are left out."""
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    shared = {key: value for key, value in data.items() if key != "frames" and value is not None}
    frames = [shared | {key: value for key, value in frame.items() if value is not None} for frame in data["frames"]]
    if not frames:
        raise ValueError("no frames")
    return sorted(frames, key=lambda frame: natural_order(frame["file_path"]))


def _poses(name: str, frames: list[_Camera]) -> Float[Tensor, "f 4 4"]:
    rows = torch.tensor([frame["transform_matrix"] for frame in frames], dtype=torch.float64)
    if rows.ndim != 3 or rows.shape[1:] not in {(4, 4), (3, 4)}:
        raise ValueError(f"transform_matrix of shape {list(rows.shape[1:])}")
    rotation = rows[:, :3, :3] * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    c2w = se3.from_rotation_translation(rotation, rows[:, :3, 3])
    se3.check_poses(name, c2w)
    return c2w


def _check_kind(camera: _Camera) -> bool:
    """Returns whether a pinhole has distortion.

    Raises:
        ValueError: nerfstudio's or instant-ngp's names say that it is no pinhole.
    """
    model = str(camera.get("camera_model", "OPENCV")).upper()
    others = [key for key, value in camera.items() if _NO_PINHOLE.search(key) and _is_set(value)]
    if model not in _PINHOLES or others:
        raise ValueError(f"a lens that is no pinhole: {others[0] if others else f'camera_model {model}'}")
    return any(_DISTORTION.fullmatch(key) and _is_set(value) for key, value in camera.items())


def _is_set(value: Any) -> bool:
    """Whether a flag, a number or an item of a list is not zero."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_set, value))
    if isinstance(value, str):
        return value.strip().lower() not in {"", "false", "none"} and not _is_zero(value)
    return bool(value)


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


def _in_pixels(frames: list[_Camera]) -> bool:
    """Whether some number is in pixels and the file does not say the picture's size."""
    return any({"fl_x", "fl_y", "cx", "cy"} & set(frame) and not {"w", "h"} <= set(frame) for frame in frames)


def _size(camera: _Camera, picture: Size) -> tuple[float, float]:
    """Height and width of the calibrated picture; those of the stored picture, where the file has none."""
    height, width = float(camera.get("h", picture[0])), float(camera.get("w", picture[1]))
    if not (1 <= height < math.inf and 1 <= width < math.inf):
        raise ValueError(f"a picture of w {width:g}, h {height:g}")
    return height, width


def _intrinsics(camera: _Camera, size: tuple[float, float]) -> list[float]:
    """(fx, fy, cx, cy) over width and height, from focal lengths in pixels or angles of view in radians."""
    height, width = size
    has_x, has_y = ({f"fl_{axis}", f"camera_angle_{axis}"} & set(camera) for axis in "xy")
    if not has_x and not has_y:
        raise ValueError("neither fl_x nor camera_angle_x")
    fx = _focal(camera, "x", width) if has_x else _focal(camera, "y", height)
    fy = _focal(camera, "y", height) if has_y else fx
    centre = float(camera.get("cx", width / 2)), float(camera.get("cy", height / 2))
    return [fx / width, fy / height, centre[0] / width, centre[1] / height]


def _focal(camera: _Camera, axis: str, size: float) -> float:
    if f"fl_{axis}" in camera:
        return float(camera[f"fl_{axis}"])
    angle = float(camera[f"camera_angle_{axis}"])
    if not 0 < angle < math.pi:
        raise ValueError(f"camera_angle_{axis} {angle:g}, which is not between 0 and pi")
    return size / 2 / math.tan(angle / 2)
