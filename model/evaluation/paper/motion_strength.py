"""Motion strength: how far moving objects go from frame to frame, the camera's share of the flow taken out.

Source: the paper, Sec. 4.2; ours: there the flow on the objects is taken as it is; a camera that moves faster would
then seem to make livelier films, so what a static scene would show at the same pixels is subtracted first.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.estimators.motion_mask import reliable_flow
from model.estimators.optical_flow import OpticalFlow
from model.estimators.static_scene import fit_static_scene
from model.optional_dependency import require

_REACH = 0.05  # of the width: how far the flow of the surroundings is carried into an object at first


@dataclass(frozen=True)
class MotionStrength:
    """Of one film; 0 throughout where nothing moves by itself.

    Attributes:
        pixels: Mean length of the objects' own flow over all their pixels in all frames, pixels from frame to frame.
        flow_pixels: The same with the camera's share left in, as the paper has it.
        moving_share: Share of all pixels that belong to moving objects.
    """

    pixels: float
    flow_pixels: float
    moving_share: float

    @property
    def degrees(self) -> float:
        """The paper's unit: it converts pixels "from radians to degrees"."""
        return math.degrees(self.pixels)


def motion_strength(
    frames: UInt8[Tensor, "f h w 3"], moving: Bool[Tensor, "f h w"], flow: OpticalFlow
) -> MotionStrength:
    """Returns the motion strength of a film.

    Args:
        frames: Two or more, in the order of time.
        moving: Pixels of objects that move by themselves (`EpipolarMotionMask`).
        flow: Estimator of the flow.
    """
    own, total, count = 0.0, 0.0, 0
    for index in range(len(frames) - 1):
        mask = moving[index].numpy()
        if mask.any():
            forth, back = flow(frames[index], frames[index + 1]), flow(frames[index + 1], frames[index])
            usable = reliable_flow(frames[index], forth.numpy(), back.numpy()) & ~mask
            objects = forth.numpy() - camera_share(forth.numpy(), usable)
            own += float(np.linalg.norm(objects, axis=-1)[mask].sum())
            total += float(np.linalg.norm(forth.numpy(), axis=-1)[mask].sum())
            count += int(mask.sum())
    share = float(moving.float().mean())
    return MotionStrength(own / max(count, 1), total / max(count, 1), share)


def camera_share(flow: Float[np.ndarray, "h w 2"], static: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 2"]:
    """Returns the flow that a static scene would have at every pixel.

    The flow of static pixels is carried into the rest from their surroundings, and moved to the nearest place that the
    scene's geometry allows: its epipolar line, or the one place if the camera only turns.

    Args:
        flow: Measured.
        static: Pixels whose flow is the camera's alone, and reliable.
    """
    scene = fit_static_scene(flow, static)
    place = scene.nearest(_carried_in(flow, static).astype(np.float64)).place
    height, width = flow.shape[:2]
    return np.asarray(place - np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1), dtype=np.float32)


def _carried_in(flow: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns means over known pixels, of near ones where there are any, of ever farther ones elsewhere."""
    cv2 = require("cv2")
    filled = np.zeros_like(flow)
    if not known.any():
        return filled
    filled += np.median(flow[known], axis=0)
    missing = np.ones(known.shape, bool)
    reach = _REACH * flow.shape[1]
    while missing.any() and reach < max(flow.shape):
        weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), reach)
        total = cv2.GaussianBlur(np.where(known[..., None], flow, 0), (0, 0), reach)
        found = missing & (weight > 0.05)
        filled[found] = total[found] / weight[found][:, None]
        missing &= ~found
        reach *= 2
    return filled
