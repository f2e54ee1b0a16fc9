"""The rays of one frame, and the rectangles of them that a box in the scene can touch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]
NEAREST_CORNER = 0.05  # metres; a box that comes nearer to the camera's plane may cover the whole picture
_CORNERS = np.array([[bool(corner >> axis & 1) for axis in range(3)] for corner in range(8)])  # of a box, low or high


@dataclass(frozen=True)
class Camera:
    """A pose and the sample positions of a picture on the plane of unit depth."""

    rotation: Array  # [3, 3] camera to scene
    origin: NDArray[np.float64]  # [3]
    across: Array  # [columns] x of the samples
    down: Array  # [rows] y of the samples


@dataclass(frozen=True)
class Rays:
    """Rays of one frame (or a window of it) with directions of unit depth, so their parameter is the z-depth."""

    origin: tuple[float, float, float]
    direction: tuple[Array, Array, Array]  # each [rows, columns]
    length: Array  # of the direction
    sun_cosine: Array  # between the ray and the sun

    def window(self, rows: slice, columns: slice = slice(None)) -> "Rays":
        """The rays of a rectangle."""
        at = (rows, columns)
        dx, dy, dz = self.direction
        return Rays(self.origin, (dx[at], dy[at], dz[at]), self.length[at], self.sun_cosine[at])


def camera_with_samples(
    pose: NDArray[np.float64], lens: NDArray[np.float64], height: int, width: int, supersample: int, border: int
) -> Camera:
    """The camera of a pose [4, 4] and intrinsics [4], with `border` samples beyond the picture on every side."""
    fx, fy, cx, cy = lens
    columns, rows = width * supersample, height * supersample
    across = ((np.arange(-border, columns + border) + 0.5) / columns - cx) / fx
    down = ((np.arange(-border, rows + border) + 0.5) / rows - cy) / fy
    return Camera(pose[:3, :3].astype(np.float32), pose[:3, 3], across.astype(np.float32), down.astype(np.float32))


def cast(camera: Camera, sun_direction: tuple[float, float, float]) -> Rays:
    """All rays of a camera; a camera under the ground is lifted just above it."""
    across, down = camera.across[None, :], camera.down[:, None]
    right, below, ahead = (row[0] * across + (row[1] * down + row[2]) for row in camera.rotation)
    length = np.sqrt(across * across + (down * down + 1))
    sun = camera.rotation.T @ np.asarray(sun_direction, np.float32)
    cosine = (sun[0] * across + (sun[1] * down + sun[2])) / length
    x, y, z = (float(value) for value in camera.origin)
    return Rays((x, min(y, -1e-3), z), (right, below, ahead), length, cosine)


def ground_depth(rays: Rays) -> tuple[slice, slice, Array]:
    """The rows that see ground, the rows that see sky (some see both), and the ground's depth in the former.

    The depth is infinite where a ray of a ground row sees sky.
    """
    dy = rays.direction[1]
    ground_rows, sky_rows = _hull(np.any(dy > 0, axis=1)), _hull(np.any(dy <= 0, axis=1))
    dy = dy[ground_rows]
    depth = np.float32(-rays.origin[1]) / np.maximum(dy, np.float32(1e-5))
    return ground_rows, sky_rows, np.where(dy > 0, depth, np.float32(np.inf))


def windows(camera: Camera, low: NDArray[np.float64], high: NDArray[np.float64]) -> list[Window | None]:
    """The rectangle of samples that each axis-aligned box [n, 3] to [n, 3] may cover; None where it is out of view."""
    corners = np.where(_CORNERS, high[:, None], low[:, None]) - camera.origin
    x, y, z = np.moveaxis(corners @ camera.rotation.astype(np.float64), -1, 0)  # each [n, 8]
    near, behind = z.min(1) < NEAREST_CORNER, z.max(1) < NEAREST_CORNER
    z = np.maximum(z, NEAREST_CORNER)
    spans = []
    for positions, values in ((camera.down, y / z), (camera.across, x / z)):
        first = np.where(near, 0, np.searchsorted(positions, values.min(1)))
        last = np.where(near, len(positions), np.searchsorted(positions, values.max(1)))
        spans.append(list(zip(first.tolist(), last.tolist(), strict=True)))
    return [
        None if hidden or top >= bottom or left >= right else (slice(top, bottom), slice(left, right))
        for hidden, (top, bottom), (left, right) in zip(behind.tolist(), *spans, strict=True)
    ]


def _hull(wanted: Mask) -> slice:
    """The shortest slice that holds every wanted row."""
    rows = np.flatnonzero(wanted)
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
