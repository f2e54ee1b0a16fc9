"""Where objects are at an instant, and which of them each ray hits first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.synthetic.primitive_shapes import Vector
from model.data.synthetic.rays import Array, Camera, Mask, Rays, Window, cast, ground_depth, windows
from model.data.synthetic.scene import Scene
from model.data.synthetic.shapes import intersect


@dataclass(frozen=True)
class Layout:
    """Where every object of a scene is at one instant."""

    offset: NDArray[np.float64]  # [n, 3] metres from the resting place
    yaw: NDArray[np.float64]  # [n] radians
    rolled: NDArray[np.float64]  # [n] metres


@dataclass(frozen=True)
class Hit:
    """One object's share of the picture."""

    index: int  # of the object
    window: Window
    visible: Mask  # [rows, columns] of the window: nearer than all objects before it
    normal: Vector  # in scene axes


def layouts(scene: Scene, seconds: NDArray[np.float64]) -> list[Layout]:
    """The layout at every instant [f]."""
    size, count = len(seconds), len(scene.objects)
    offset, yaw, rolled = np.zeros((size, count, 3)), np.zeros((size, count)), np.zeros((size, count))
    for index, item in enumerate(scene.objects):
        yaw[:, index] = item.yaw
        if item.motion is not None:
            offset[:, index] = item.motion.offset(seconds)
            yaw[:, index] += item.motion.turn(seconds)
            rolled[:, index] = item.motion.rolled(seconds)
    return [Layout(*parts) for parts in zip(offset, yaw, rolled, strict=True)]


def cast_at_objects(scene: Scene, camera: Camera, rays: Rays, layout: Layout, nearest: Array) -> list[Hit]:
    """Casts rays at every object in view, lowers `nearest` in place, and returns a hit for each object that is seen."""
    if not scene.objects:
        return []
    centre = layout.offset + np.array([[item.x, -item.hover, item.z] for item in scene.objects])
    radius = np.array([item.radius for item in scene.objects])
    height = np.array([item.height for item in scene.objects])
    low = centre - np.stack([radius, height, radius], -1)
    high = centre + np.stack([radius, 0 * radius, radius], -1)
    hits = []
    for index, window in enumerate(windows(camera, low, high)):
        if window is None:
            continue
        cosine, sine = np.float32(np.cos(layout.yaw[index])), np.float32(np.sin(layout.yaw[index]))
        x, y, z = (
            np.asarray(start - middle, np.float32) for start, middle in zip(rays.origin, centre[index], strict=True)
        )
        o, d = (turned(layout, index, vector) for vector in ((x, y, z), rays.window(*window).direction))
        depth, (nx, ny, nz) = intersect(scene.objects[index], o, d)
        visible = np.asarray(depth < nearest[window])
        if visible.any():
            np.copyto(nearest[window], depth, where=visible)
            hits.append(Hit(index, window, visible, (cosine * nx - sine * nz, ny, sine * nx + cosine * nz)))
    return hits


def turned(layout: Layout, index: int, vector: Vector) -> Vector:
    """Turns vectors from the scene's axes to an object's axes."""
    cosine, sine = np.float32(np.cos(layout.yaw[index])), np.float32(np.sin(layout.yaw[index]))
    x, y, z = vector
    return np.asarray(cosine * x + sine * z), y, np.asarray(cosine * z - sine * x)


def trace(scene: Scene, camera: Camera, layout: Layout) -> tuple[Array, NDArray[np.int64]]:
    """z-depth in metres (infinite: sky) and the index of the object that is seen (-1: none), for every ray."""
    rays = cast(camera, scene.sun_direction)
    rows, _, depth = ground_depth(rays)
    nearest = np.full(rays.length.shape, np.inf, np.float32)
    nearest[rows] = depth
    objects = np.full(nearest.shape, -1, np.int64)
    for hit in cast_at_objects(scene, camera, rays, layout, nearest):
        np.copyto(objects[hit.window], hit.index, where=hit.visible)
    return nearest, objects
