"""Masks of moving objects: pixels whose motion no camera motion through a static scene explains."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.estimators.optical_flow import DISFlow, OpticalFlow
from model.estimators.static_scene import NearestStatic, StaticScene, fit_static_scene
from model.optional_dependency import require

_Image = NDArray[np.float32]
_TEXTURE = 0.05  # grey levels per pixel in every direction: with less texture, flow is a guess
_WINDOW = 9  # pixels: the patches that are compared
_NOISE = 2.0  # grey levels: less contrast hardly counts
_DEPTHS = range(-4, 5)  # steps of a pixel (at 320 of the width) along the epipolar line
_SEEDED = 0.2  # share of a patch that must be sure


@runtime_checkable
class MotionMask(Protocol):
    """Segmentation of moving objects: any callable with this signature (TMO, SAM behind a detector)."""

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Bool[Tensor, "f h w"]:
        """Returns True on moving objects."""
        ...


@dataclass(frozen=True)
class EpipolarMotionMask:
    """Finds pixels that leave their epipolar line and whose patch is found again only off the line.

    Each frame is compared with one before and one after. The static scene's geometry is fitted robustly to the flow
    where the flow can be trusted (texture; flow forth and back agree). A pixel moves if (1) its flow ends off its line,
    and (2) its patch looks more like the one where the flow ends than like any near the line: so sky, haze and edges
    along which the flow slides do not count, nor does a shadow's edge on static ground. Both must hold in the mean over
    the comparisons. Sure pixels seed patches that may contain less sure ones.

    Blind to objects that move along their epipolar lines, such as one straight ahead that the camera follows at its
    speed. Objects must cover less than half of the textured picture.

    Attributes:
        flow: Estimator of the flow.
        gap: Frames between the compared ones: a larger gap shows more motion.
        threshold: Pixels off the line, per 320 of the width, above which a pixel moves.
        gain: By how much more the patch where the flow ends must correlate than those near the line.
        smallest: Share of the picture below which a patch is noise.

    Source: ours, in place of TMO, because it needs no weights.
    """

    flow: OpticalFlow = field(default_factory=DISFlow)
    gap: int = 3
    threshold: float = 1.0
    gain: float = 0.15
    smallest: float = 1e-3

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Bool[Tensor, "f h w"]:
        """Returns the masks. A single frame has no motion."""
        masks = torch.zeros(frames.shape[:3], dtype=torch.bool)
        if len(frames) < 2:
            return masks
        gap = max(1, min(self.gap, len(frames) // 2))
        # for each frame and pixel: sums of residual and gain over its comparisons, and their number
        evidence = [np.zeros((3, *frames.shape[1:3]), np.float32) for _ in range(gap)]
        for index in range(len(frames)):
            # evidence[0] is this frame's: the comparison with an earlier frame was added `gap` steps ago
            evidence.append(np.zeros_like(evidence[0]))
            if index + gap < len(frames):
                self._compare(frames[index], frames[index + gap], evidence[0], evidence[-1])
            residual, gain, count = evidence.pop(0)
            masks[index] = torch.from_numpy(self._moving(residual / np.maximum(count, 1), gain / np.maximum(count, 1)))
        return masks

    def _compare(self, first: Tensor, second: Tensor, of_first: _Image, of_second: _Image) -> None:
        forth, back = self.flow(first, second).numpy(), self.flow(second, first).numpy()
        grey, other = _grey(first), _grey(second)
        scene = fit_static_scene(forth, reliable_flow(first, forth, back))
        of_first += _compared(grey, other, forth, back, scene)
        of_second += _compared(other, grey, back, forth, scene.reverse())

    def _moving(self, residual: _Image, gain: _Image) -> NDArray[np.bool_]:
        cv2 = require("cv2")
        off_line = residual * (320 / residual.shape[1]) > self.threshold
        sure = _cleaned(off_line & (gain > self.gain), opening=3)
        patches = (_cleaned(off_line & (gain > 0), opening=5) | sure).astype(np.uint8)
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(patches)
        area = statistics[:, cv2.CC_STAT_AREA]
        seeds = np.bincount(labels.ravel(), weights=sure.ravel(), minlength=count)
        kept = (seeds >= _SEEDED * area) & (area >= self.smallest * labels.size)
        kept[0] = False  # the background
        return np.asarray(kept[labels])


def reliable_flow(
    frame: UInt8[Tensor, "h w 3"], forth: _Image, back: _Image, texture: float = _TEXTURE
) -> NDArray[np.bool_]:
    """Returns where flow `h w 2` from a frame can be trusted: `back` returns to the start, and there is texture.

    Texture: the root of the structure tensor's smaller eigenvalue is above `texture`, grey levels per pixel.
    """
    cv2 = require("cv2")
    grey = _grey(frame)
    right, down = (cv2.Sobel(grey, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.blur(product, (_WINDOW, _WINDOW)) for product in (right * right, down * down, right * down))
    weaker = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return np.asarray(_returns(forth, back, 0.5, 0.05) & (weaker > texture**2))


def _grey(frame: Tensor) -> _Image:
    cv2 = require("cv2")
    return np.asarray(cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY), dtype=np.float32)


def _returns(forth: _Image, back: _Image, pixels: float, share: float) -> NDArray[np.bool_]:
    """Returns where the flow back ends at the start, within some pixels and a share of the way."""
    missed = np.linalg.norm(forth + _sampled(back, _ends(forth), outside=1e3), axis=-1)
    return np.asarray(missed < pixels + share * np.linalg.norm(forth, axis=-1))


def _compared(grey: _Image, other: _Image, forth: _Image, back: _Image, scene: StaticScene) -> _Image:
    """Returns residual, gain in correlation off the line, and 1, `3 h w`; all 0 at pixels that cannot be compared."""
    nearest = scene.nearest(forth.astype(np.float64))
    moved = _correlation(grey, other, _ends(forth))
    static = np.max([_correlation(grey, other, place) for place in _static_places(nearest)], axis=0)
    known = _returns(forth, back, 1.0, 0.1)  # pixels that leave the picture or get hidden do not return
    return np.stack((nearest.residual * known, (moved - static) * known, known)).astype(np.float32)


def _static_places(nearest: NearestStatic) -> list[NDArray[np.float32]]:
    if not nearest.along.any():
        return [nearest.place.astype(np.float32)]
    step = nearest.place.shape[1] / 320
    return [(nearest.place + k * step * nearest.along).astype(np.float32) for k in _DEPTHS]


def _correlation(grey: _Image, other: _Image, places: NDArray[np.float32]) -> _Image:
    """Returns the normalised correlation of each pixel's patch with the other frame's at the places; 0 for flat ones.

    Mean and contrast do not count, so a patch on which a shadow falls still correlates with itself.
    """
    cv2 = require("cv2")
    size = (_WINDOW, _WINDOW)
    warped = _sampled(other, places)
    mean, mean_warped = cv2.blur(grey, size), cv2.blur(warped, size)
    variances = [
        np.maximum(cv2.blur(image * image, size) - average * average, 0) + _NOISE**2
        for image, average in ((grey, mean), (warped, mean_warped))
    ]
    return np.asarray((cv2.blur(grey * warped, size) - mean * mean_warped) / np.sqrt(variances[0] * variances[1]))


def _ends(flow: _Image) -> NDArray[np.float32]:
    height, width = flow.shape[:2]
    return np.asarray(flow + np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1), dtype=np.float32)


def _sampled(image: _Image, places: NDArray[np.float32], outside: float | None = None) -> _Image:
    cv2 = require("cv2")
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    value = (0.0 if outside is None else outside,) * 4
    sampled = cv2.remap(image, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=border, borderValue=value)
    return np.asarray(sampled, dtype=np.float32)


def _cleaned(mask: NDArray[np.bool_], opening: int, closing: int = 7) -> NDArray[np.bool_]:
    cv2 = require("cv2")
    cleaned: Any = mask.astype(np.uint8)
    for operation, size in ((cv2.MORPH_OPEN, opening), (cv2.MORPH_CLOSE, closing)):
        cleaned = cv2.morphologyEx(cleaned, operation, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return np.asarray(cleaned, dtype=bool)
