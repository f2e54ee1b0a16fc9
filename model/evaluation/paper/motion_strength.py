"""Motion strength: how far moving objects go from frame to frame, without the camera's share of the flow.

Source: the paper, Sec. 4.2; ours: the paper uses the full flow on the objects, but then a faster camera would seem to
make livelier films; so the flow of a static scene at the same pixels is subtracted first.
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

_REACH = 0.05  # of the width: how far the flow of the surroundings is first extended into an object


@dataclass(frozen=True)
class MotionStrength:
    """Motion strength of one film; all values are 0 if nothing moves by itself.

    Attributes:
        pixels: Mean length of the objects' own flow over all their pixels in all frames, pixels from frame to frame.
        flow_pixels: The same with the camera's share, as in the paper.
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
        frames: Two or more, in order of time.
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

    The other pixels get the flow of static pixels around them, which is then moved to the nearest place that the
    scene's geometry allows: the epipolar line, or the only possible place if the camera only turns.

    Args:
        flow: The measured flow.
        static: Pixels with reliable flow that comes from the camera alone.
    """
    scene = fit_static_scene(flow, static)
    place = scene.nearest(_carried_in(flow, static).astype(np.float64)).place
    height, width = flow.shape[:2]
    return np.asarray(place - np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1), dtype=np.float32)


def _carried_in(flow: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns means over near known pixels; where there are none, over known pixels in growing neighbourhoods."""
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
