"""nerfstudio's `transforms.json` (also DL3DV's and instant-ngp's): OpenGL cameras into the manifest."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from model.data.manifest import ClipRecord
from model.data.media import find_pictures
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_PINHOLES = {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL"}


def nerfstudio_record(
    clip_id: str,
    path: str | Path,
    *,
    media: str | None = None,
    fps: float = 1.0,
    scale: float | None = None,
    ignore_distortion: bool = False,
) -> ClipRecord:
    """Returns the record of a `transforms.json`; frames in the natural order of their names are a film.

    Axes are turned from OpenGL's (x right, y up, z back) to ours; the world stays as the file has it.

    Args:
        clip_id: The record's id.
        path: The file, or its folder.
        media: The folder of the pictures in the scene, in place of the one that the file names (`images_4`).
        fps: Pictures a second.
        scale: Metres per unit of the file; the poses are multiplied by it. None: not known.
        ignore_distortion: Takes a distorted lens for a pinhole and says so in the provenance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is malformed, its lens is distorted or a fisheye, or pictures are missing.
    """
    path = Path(path) / "transforms.json" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected nerfstudio's transforms.json, found none; check the folder")
    try:
        data = json.loads(path.read_text())
        frames = sorted(data["frames"], key=lambda frame: _natural(frame["file_path"]))
        if not frames:
            raise ValueError("no frames")
        c2w = _poses(str(path), frames)
        lenses = torch.tensor([_intrinsics(data | frame) for frame in frames])
        distorted = any(_distortion(data | frame) for frame in frames)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected nerfstudio's transforms, got {error!r}; export it again") from error
    if distorted and not ignore_distortion:
        raise ValueError(f"{path}: expected a lens without distortion; undistort the frames or set ignore_distortion")
    folder = path.resolve().parent
    if scale is not None:
        c2w[:, :3, 3] *= scale
    return ClipRecord(
        id=clip_id,
        source=str(folder),
        times=torch.arange(len(frames), dtype=torch.float64) / fps,
        files=find_pictures(folder, [frame["file_path"] for frame in frames], media),
        camera=CameraTrajectory(c2w.float(), lenses),
        scale=scale,
        provenance={"reader": "nerfstudio"} | ({"distortion": "ignored"} if distorted else {}),
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _poses(name: str, frames: list[dict[str, Any]]) -> Float[Tensor, "f 4 4"]:
    rows = torch.tensor([frame["transform_matrix"] for frame in frames], dtype=torch.float64)
    if rows.ndim != 3 or rows.shape[1:] not in {(4, 4), (3, 4)}:
        raise ValueError(f"transform_matrix of shape {list(rows.shape[1:])}")
    rotation = rows[:, :3, :3] * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    c2w = se3.from_rotation_translation(rotation, rows[:, :3, 3])
    se3.check_poses(name, c2w)
    return c2w


def _intrinsics(camera: Mapping[str, Any]) -> list[float]:
    """(fx, fy, cx, cy) over width and height, from focal lengths in pixels or angles of view in radians."""
    model = camera.get("camera_model", "OPENCV")
    if model not in _PINHOLES:
        raise ValueError(f"camera_model {model}")
    width, height = float(camera["w"]), float(camera["h"])
    fx = _focal(camera, "x", width)
    fy = _focal(camera, "y", height) if {"fl_y", "camera_angle_y"} & set(camera) else fx
    centre = float(camera.get("cx", width / 2)), float(camera.get("cy", height / 2))
    return [fx / width, fy / height, centre[0] / width, centre[1] / height]


def _focal(camera: Mapping[str, Any], axis: str, size: float) -> float:
    if f"fl_{axis}" in camera:
        return float(camera[f"fl_{axis}"])
    return size / 2 / math.tan(float(camera[f"camera_angle_{axis}"]) / 2)


def _distortion(camera: Mapping[str, Any]) -> bool:
    return any(float(camera.get(key, 0)) for key in _DISTORTION)
