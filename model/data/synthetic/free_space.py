"""Exact free space of a scene: distances to the nearest surface, along a move, and whether a camera path is clear."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from model.data.synthetic.primitive_shapes import Vector
from model.data.synthetic.scene import Scene, static_scene
from model.data.synthetic.shapes import distance
from model.data.synthetic.solids import SceneObject
from model.geometry.clearance import free_fraction as free_fraction_of_move


def distance_to_surface(
    scene: Scene, points: NDArray[np.float64], seconds: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signed distance [...] in metres from points [..., 3] to the nearest surface; negative inside or below.

    The ground counts, and moving objects are where they are at `seconds`: one number, or one for each point.
    """
    times = np.broadcast_to(np.asarray(seconds, np.float64), points.shape[:-1])
    nearest = -points[..., 1]
    for item in scene.objects:
        nearest = np.minimum(nearest, distance(item, _own_frame(item, points, times)))
    return nearest


def free_fraction(
    scene: Scene, c2w: Float[Tensor, "4 4"], twist: Float[Tensor, "6"], start: float, seconds: float, margin: float
) -> float:
    """Largest share in [0, 1] of a twist's translation that keeps a camera clear of a scene.

    The move starts at `c2w` in the scene at `start` seconds and takes `seconds`; objects move during it. See
    `model.geometry.clearance.free_fraction`.
    """
    if clearance(scene, c2w[None, :3, 3].detach().cpu().double().numpy())[0] > margin + float(twist[:3].norm()):
        return 1.0  # nothing is within reach: most moves

    def nearest(points: NDArray[np.float64], parts: NDArray[np.float64]) -> NDArray[np.float64]:
        return distance_to_surface(scene, points, start + parts * seconds)

    return free_fraction_of_move(nearest, c2w, twist, margin)


def clearance(scene: Scene, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower bound [n] in metres of the distance from points [n, 3] to any surface at any time.

    A moving object counts as the upright cylinder that it never leaves.
    """
    nearest = distance_to_surface(static_scene(scene), points, 0.0)
    for item in scene.objects:
        if item.motion is not None:
            outward = np.hypot(points[:, 0] - item.x, points[:, 2] - item.z) - item.swept_radius
            nearest = np.minimum(nearest, np.maximum(outward, -points[:, 1] - item.swept_height))
    return nearest


def _own_frame(item: SceneObject, points: NDArray[np.float64], seconds: NDArray[np.float64]) -> Vector:
    """Points [..., 3] in the object's own frame at `seconds` [...]; see `shapes`."""
    yaw, points = np.full(seconds.shape, item.yaw), points - np.array([item.x, -item.hover, item.z])
    if item.motion is not None:
        yaw, points = yaw + item.motion.turn(seconds), points - item.motion.offset(seconds)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return cosine * x + sine * z, y, cosine * z - sine * x
