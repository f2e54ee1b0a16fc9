"""How camera motion alone can move the pixels: the geometry of a static scene between two frames."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from model.optional_dependency import require

_RANSAC_PIXELS = 0.5
# A fundamental matrix can explain a plane and one moving object together: it must win by more than an object's share.
_FLAT_ENOUGH = 0.8
_CELLS = (12, 16)  # rows and columns of cells that count equally
_PER_CELL = 20  # pixels of each cell that the fits use
_FEWEST = 50
_SEED = 7


@dataclass(frozen=True, eq=False)
class NearestStatic:
    """Where a static scene could show a pixel in the other frame, nearest to where the flow leads.

    Attributes:
        residual: Pixels between both: Sampson's distance to the epipolar line, or the distance to the only place.
        place: (x, y) of the nearest place.
        along: Unit vector along the epipolar line, on which other depths lie; zero if the depth makes no difference.
    """

    residual: Float[np.ndarray, "h w"]
    place: Float[np.ndarray, "h w 2"]
    along: Float[np.ndarray, "h w 2"]


@dataclass(frozen=True, eq=False)
class StaticScene:
    """A fundamental matrix; or a homography, where the scene is flat or the camera only turns."""

    matrix: Float[np.ndarray, "3 3"]
    is_flat: bool

    def reverse(self) -> "StaticScene":
        """Returns the geometry from the second frame to the first."""
        return StaticScene(np.linalg.inv(self.matrix) if self.is_flat else self.matrix.T, self.is_flat)

    def nearest(self, flow: Float[np.ndarray, "h w 2"]) -> NearestStatic:
        """Returns, for every pixel, the place nearest to the flow's end that the static scene allows."""
        start = _pixels(*flow.shape[:2])
        end = start + flow
        if self.is_flat:
            moved = _homogeneous(start) @ self.matrix.T
            place = moved[..., :2] / moved[..., 2:]
            return NearestStatic(np.linalg.norm(end - place, axis=-1), place, np.zeros_like(place))
        line, line_back = _homogeneous(start) @ self.matrix.T, _homogeneous(end) @ self.matrix
        error = (line * _homogeneous(end)).sum(axis=-1)
        slope, slope_back = ((side[..., :2] ** 2).sum(axis=-1) + 1e-18 for side in (line, line_back))
        place = end - (error / slope)[..., None] * line[..., :2]
        along = np.stack((-line[..., 1], line[..., 0]), axis=-1) / np.sqrt(slope)[..., None]
        return NearestStatic(np.abs(error) / np.sqrt(slope + slope_back), place, along)


def fit_static_scene(flow: Float[np.ndarray, "h w 2"], usable: Bool[np.ndarray, "h w"] | None = None) -> StaticScene:
    """Returns the geometry that explains most of the usable pixels; all parts of the picture count equally.

    A homography, if it explains almost as many as a fundamental matrix, which is then not determined. With too few
    pixels the camera is assumed to stand still.
    """
    cv2 = require("cv2")
    chosen = _spread(np.ones(flow.shape[:2], bool) if usable is None else usable)
    start = _pixels(*flow.shape[:2]).reshape(-1, 2)[chosen]
    end = start + flow.reshape(-1, 2)[chosen]
    if len(chosen) < _FEWEST:
        return StaticScene(np.eye(3), True)
    cv2.setRNGSeed(_SEED)
    homography, flat = _fitted(cv2.findHomography(start, end, cv2.RANSAC, _RANSAC_PIXELS, maxIters=1000))
    fundamental, epipolar = _fitted(cv2.findFundamentalMat(start, end, cv2.FM_RANSAC, _RANSAC_PIXELS, 0.999, 2000))
    if fundamental is not None and flat < _FLAT_ENOUGH * epipolar:
        return StaticScene(fundamental, False)
    is_invertible = homography is not None and abs(np.linalg.det(homography)) > 1e-12
    return StaticScene(homography if is_invertible else np.eye(3), True)


def _fitted(result: tuple[Any, Any]) -> tuple[Any, int]:
    matrix, inliers = result
    return (None, 0) if matrix is None or matrix.shape != (3, 3) else (matrix, int(inliers.sum()))


def _spread(usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns flat indices of random usable pixels, at most `_PER_CELL` per cell: else the ground outvotes the rest."""
    height, width = usable.shape
    indices = np.random.default_rng(_SEED).permutation(np.flatnonzero(usable))
    rows, columns = indices // width * _CELLS[0] // height, indices % width * _CELLS[1] // width
    cell = rows * _CELLS[1] + columns
    order = np.argsort(cell, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    return np.asarray(indices[order[rank < _PER_CELL]])


def _pixels(height: int, width: int) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)


def _homogeneous(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate((points, np.ones_like(points[..., :1])), axis=-1)
