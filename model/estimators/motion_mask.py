"""What moves by itself: pixels whose flow no motion of the camera through a static scene explains."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.estimators.optical_flow import DISFlow, OpticalFlow
from model.estimators.optional_dependency import require

_SAMPLES = 3000  # pixels that the fits see
_RANSAC_PIXELS = 0.5
# A fundamental matrix can explain a plane and one moving object together, so it must win by more than an object.
_FLAT_ENOUGH = 0.8
_SEED = 7


@runtime_checkable
class MotionMask(Protocol):
    """Segmentation of moving objects; any callable of this shape (TMO, SAM behind a detector) serves."""

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Bool[Tensor, "f h w"]:
        """Returns True where an object moves by itself."""
        ...


@dataclass(frozen=True)
class EpipolarMotionMask:
    """Pixels far from their epipolar lines, for a fundamental matrix fitted robustly to the dense flow.

    Where a homography explains the pictures as well (a camera that only turns or stands, a flat scene), it is used
    instead, because the fundamental matrix is then not determined. Blind to objects that move along their epipolar
    lines, as one that is followed at its own speed straight ahead. Objects must cover less than half of the picture.

    Attributes:
        flow: Estimator of the flow.
        gap: Frames between the compared ones: a longer way tells more.
        threshold: Pixels of residual, per 320 of the width, above which a pixel moves.
        smallest: Share of the picture below which a patch is noise.

    Source: ours, in place of TMO: no weights.
    """

    flow: OpticalFlow = field(default_factory=DISFlow)
    gap: int = 3
    threshold: float = 1.0
    smallest: float = 5e-4

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Bool[Tensor, "f h w"]:
        """Returns the masks; the last `gap` frames are compared with earlier ones. A single frame has no motion."""
        masks = torch.zeros(frames.shape[:3], dtype=torch.bool)
        gap = min(self.gap, len(frames) - 1)
        if gap < 1:
            return masks
        for index in range(len(frames)):
            other = index + gap if index + gap < len(frames) else index - gap
            other = max(other, 0) if other != index else index - 1
            residual = motion_residual(self.flow(frames[index], frames[other]))
            masks[index] = self._cleaned(residual * (320 / frames.shape[2]))
        return masks

    def _cleaned(self, residual: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
        cv2 = require("cv2")
        # the flow of a well-textured still scene is good to a fraction of a pixel; of a poor one, its median tells
        threshold = max(self.threshold, 4 * float(residual.median()))
        mask = (residual > threshold).numpy().astype(np.uint8)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc), cv2.MORPH_CLOSE, disc)
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
        large = [k for k in range(1, count) if statistics[k, cv2.CC_STAT_AREA] >= self.smallest * mask.size]
        return torch.from_numpy(np.isin(labels, large))


def motion_residual(flow: Float[Tensor, "h w 2"]) -> Float[Tensor, "h w"]:
    """Returns pixels between where the flow leads and where a static scene could be seen, after robust fits.

    The Sampson distance to the epipolar line; or, where a homography fits almost as many pixels, the distance to
    where it leads.
    """
    cv2 = require("cv2")
    height, width = flow.shape[:2]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    start = torch.stack((u, v), dim=-1).reshape(-1, 2).double().numpy()
    end = start + flow.reshape(-1, 2).double().numpy()
    chosen = np.random.default_rng(_SEED).permutation(len(start))[:_SAMPLES]
    cv2.setRNGSeed(_SEED)
    homography, flat = _fit_homography(cv2, start[chosen], end[chosen])
    fundamental, epipolar = _fit_fundamental(cv2, start[chosen], end[chosen])
    if fundamental is None or (homography is not None and flat >= _FLAT_ENOUGH * epipolar):
        by_camera = start if homography is None else _moved(homography, start)
        residual = np.linalg.norm(end - by_camera, axis=-1)
    else:
        residual = _sampson(fundamental, start, end)
    return torch.from_numpy(residual.astype(np.float32)).reshape(height, width)


def _fit_homography(cv2: Any, start: Any, end: Any) -> tuple[Any, int]:
    matrix, inliers = cv2.findHomography(start, end, cv2.RANSAC, _RANSAC_PIXELS, maxIters=2000)
    return (None, 0) if matrix is None else (matrix, int(inliers.sum()))


def _fit_fundamental(cv2: Any, start: Any, end: Any) -> tuple[Any, int]:
    matrix, inliers = cv2.findFundamentalMat(start, end, cv2.FM_RANSAC, _RANSAC_PIXELS, 0.999, 2000)
    return (None, 0) if matrix is None or matrix.shape != (3, 3) else (matrix, int(inliers.sum()))


def _moved(homography: Any, points: Any) -> Any:
    moved = np.pad(points, ((0, 0), (0, 1)), constant_values=1.0) @ homography.T
    return moved[:, :2] / moved[:, 2:]


def _sampson(fundamental: Any, start: Any, end: Any) -> Any:
    first, second = (np.pad(points, ((0, 0), (0, 1)), constant_values=1.0) for points in (start, end))
    line_second, line_first = first @ fundamental.T, second @ fundamental
    error = (second * line_second).sum(axis=-1)
    slope = line_second[:, 0] ** 2 + line_second[:, 1] ** 2 + line_first[:, 0] ** 2 + line_first[:, 1] ** 2
    return np.abs(error) / np.sqrt(np.maximum(slope, 1e-18))
