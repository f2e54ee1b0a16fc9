"""Exact free space of a scene: distances to the nearest surface, along a move, and whether a camera path is clear."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from model.data.synthetic.scene import Scene, SceneObject
from model.data.synthetic.shapes import distance
from model.geometry.clearance import clear_share


def distance_to_surface(
    scene: Scene, points: Float[Tensor, "*batch 3"], time: float | Float[Tensor, "*#batch"] = 0.0
) -> Float[Tensor, "*batch"]:
    """Signed distance in metres from points to the nearest surface, ground included; negative inside or below.

    Args:
        scene: moving objects are where they are at `time`.
        points: scene coordinates.
        time: seconds, one or one a point.
    """
    where = _finite("points", points)
    seconds = np.broadcast_to(_seconds(time), where.shape[:-1]).reshape(-1)
    nearest = _nearest(scene, where.reshape(-1, 3), seconds)
    return torch.from_numpy(nearest.reshape(where.shape[:-1])).to(points.dtype)


def is_free(
    scene: Scene, c2w: Float[Tensor, "*batch 4 4"], times: float | Float[Tensor, "*#batch"] = 0.0, margin: float = 0.0
) -> Bool[Tensor, "*batch"]:
    """Whether each camera is more than `margin` metres away from every surface at its time."""
    return distance_to_surface(scene, c2w[..., :3, 3], times) > margin


def free_fraction(
    scene: Scene, c2w: Float[Tensor, "4 4"], twist: Float[Tensor, "6"], start: float, seconds: float, margin: float
) -> float:
    """Largest share in [0, 1] of a twist's translation that keeps a camera clear of a scene; see `clear_share`.

    Args:
        scene: objects move while the camera does.
        c2w: where the move starts, scene coordinates.
        twist: (v, w), metres and radians.
        start: seconds, when it starts.
        seconds: how long it takes.
        margin: metres.
    """
    if clearance(scene, c2w[None, :3, 3].detach().cpu().double().numpy())[0] > margin + float(twist[:3].norm()):
        return 1.0  # nothing is within reach: most moves
    return clear_share(lambda points, parts: _nearest(scene, points, start + parts * seconds), c2w, twist, margin)


def clearance(scene: Scene, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower bound [n] in metres of the distance from points [n, 3] to any surface at any time.

    A moving object counts as the upright cylinder that it never leaves.
    """
    nearest = -points[:, 1]
    still = np.zeros(len(points))
    for item in scene.objects:
        if item.motion is None:
            nearest = np.minimum(nearest, distance(item, _own_frame(item, points, still)))
        else:
            outward = np.hypot(points[:, 0] - item.x, points[:, 2] - item.z) - item.swept_radius
            above = -points[:, 1] - item.swept_height
            nearest = np.minimum(nearest, np.maximum(outward, above))
    return np.asarray(nearest)


def _nearest(scene: Scene, points: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distance [n] from points [n, 3] at `seconds` [n]."""
    nearest = -points[:, 1]
    for item in scene.objects:
        nearest = np.minimum(nearest, distance(item, _own_frame(item, points, seconds)))
    return nearest


def _own_frame(
    item: SceneObject, values: NDArray[np.float64], seconds: NDArray[np.float64], is_direction: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points or directions [..., 3] in the object's own frame at `seconds` [...]; see `shapes`."""
    yaw = np.full(seconds.shape, item.yaw)
    if item.motion is not None:
        yaw = yaw + item.motion.turn(seconds)
    if not is_direction:
        values = values - np.array([item.x, -item.hover, item.z])
        if item.motion is not None:
            values = values - item.motion.offset(seconds)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    x, y, z = values[..., 0], values[..., 1], values[..., 2]
    return cosine * x + sine * z, y, cosine * z - sine * x


def _finite(name: str, values: Tensor) -> NDArray[np.float64]:
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return array


def _seconds(time: float | Tensor) -> NDArray[np.float64]:
    return np.asarray(time.detach().cpu().double().numpy() if isinstance(time, Tensor) else time, np.float64)
