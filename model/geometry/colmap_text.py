"""COLMAP models as text: cameras, poses and points, for programs that read COLMAP. Pinhole cameras only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory
from model.whole_file import write_text

Track = list[tuple[int, float, float]]
"""Where pictures see a point: the picture's index, and x and y in pixels, the centre of the first pixel at 0.5."""


@dataclass(frozen=True)
class ColmapPoints:
    """Points of a model.

    Attributes:
        xyz: Metres, world frame.
        rgb: Colours.
        tracks: One for each point.
    """

    xyz: Float[np.ndarray, "n 3"]
    rgb: UInt8[np.ndarray, "n 3"]
    tracks: list[Track]


def write_colmap_text(
    folder: str | Path,
    camera: CameraTrajectory,
    height: int,
    width: int,
    names: Sequence[str] | None = None,
    points: ColmapPoints | None = None,
) -> None:
    """Writes `cameras.txt`, `images.txt` and `points3D.txt`, with one camera for each different lens.

    Raises:
        ValueError: there is not one name, without white space, for each pose.
    """
    names = names or [f"{index:06d}.png" for index in range(len(camera))]
    if len(names) != len(camera) or any(len(name.split()) != 1 for name in names):
        raise ValueError(f"names: expected {len(camera)} without white space, one for each pose, got {len(names)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lenses, lens_of = torch.unique(camera.intrinsics.double(), dim=0, return_inverse=True)
    in_pixels = lenses * torch.tensor([width, height, width, height], dtype=torch.float64)
    cameras = [f"{k} PINHOLE {width} {height} {_numbers(row)}" for k, row in enumerate(in_pixels, start=1)]
    w2c = se3.inverse(camera.c2w.double())
    quaternions = roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(w2c[:, :3, :3]))
    seen, point_lines = _point_lines(points, len(camera))
    images = []
    for number, name in enumerate(names):
        pose = f"{_numbers(quaternions[number])} {_numbers(w2c[number, :3, 3])}"
        images += [f"{number + 1} {pose} {int(lens_of[number]) + 1} {name}", " ".join(seen[number])]
    # images last: where they exist, the model is complete
    for file, lines in (("cameras", cameras), ("points3D", point_lines), ("images", images)):
        write_text(folder / f"{file}.txt", "\n".join([f"# {file}", *lines]) + "\n")


def _point_lines(points: ColmapPoints | None, num_images: int) -> tuple[list[list[str]], list[str]]:
    """What each picture sees, `x y id`, and a line for each point: id, place, colour, error 0, track."""
    seen: list[list[str]] = [[] for _ in range(num_images)]
    lines: list[str] = []
    if points is not None:
        for number, (xyz, rgb, track) in enumerate(zip(points.xyz, points.rgb, points.tracks, strict=True), start=1):
            places = []
            for image, x, y in track:
                places.append(f"{image + 1} {len(seen[image])}")
                seen[image].append(f"{x:.4f} {y:.4f} {number}")
            place = " ".join(f"{value:.6f}" for value in xyz)
            lines.append(f"{number} {place} {rgb[0]} {rgb[1]} {rgb[2]} 0 {' '.join(places)}")
    return seen, lines


def _numbers(values: Tensor) -> str:
    return " ".join(f"{value:.17g}" for value in values.tolist())
