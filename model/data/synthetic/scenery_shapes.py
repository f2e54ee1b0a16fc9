"""Trees, rocks and houses as solids: rays, distances, and the colour of each point of their surface.

Frames, rays and distances are those of `model.data.synthetic.shapes`; trees and rocks are unions of its solids.
"""

from itertools import pairwise

import numpy as np

from model.data.synthetic.primitive_shapes import (
    NEAR,
    Array,
    Vector,
    cone,
    cone_distance,
    cylinder,
    cylinder_distance,
    sphere,
    sphere_distance,
)
from model.data.synthetic.solids import EAVES, TRUNK, SceneObject
from model.data.synthetic.themes import MATERIALS, PALETTE, RGB

_DOOR, _WINDOW = MATERIALS["wood"], MATERIALS["glass"]
_MARGIN = 0.02  # metres; a point this near a part's surface belongs to it


def intersect(item: SceneObject, o: Vector, d: Vector) -> tuple[Array, Vector]:
    """As `shapes.intersect`."""
    match item.kind:
        case "tree":
            crown, trunk = _crown(item)
            return _with_trunk(sphere(o, d, item.half_width, -crown), o, d, trunk, crown)
        case "fir":
            low = TRUNK * item.height
            raised = (o[0], np.asarray(o[1] + np.float32(low)), o[2])
            crown_part = cone(raised, d, item.half_width, item.height - low)
            return _with_trunk(crown_part, o, d, TRUNK * item.half_width, 2 * low)
        case "rock":
            return _nearer(
                *(sphere((np.asarray(o[0] - np.float32(x)), o[1], o[2]), d, r, y) for x, y, r in _boulders(item))
            )
        case "house":
            return _house(item, o, d)
    raise AssertionError(item.kind)


def distance(item: SceneObject, point: Vector) -> Array:
    """Signed distance as in `shapes.distance`; inside a union, that to the surface of one of its parts."""
    x, y, z = point
    match item.kind:
        case "tree":
            crown, trunk = _crown(item)
            return np.minimum(sphere_distance(point, item.half_width, -crown), cylinder_distance(point, trunk, crown))
        case "fir":
            low = TRUNK * item.height
            cone_part = cone_distance(np.sqrt(x * x + z * z), y + low, item.half_width, item.height - low)
            return np.minimum(cone_part, cylinder_distance(point, TRUNK * item.half_width, 2 * low))
        case "rock":
            parts = [sphere_distance((x - left, y, z), r, centre) for left, centre, r in _boulders(item)]
            return np.minimum(*parts)
        case "house":
            across = _gable_distance(np.abs(x), y, item.half_width, item.height)
            along = np.abs(z) - item.half_depth
            outside = np.sqrt(np.maximum(across, 0) ** 2 + np.maximum(along, 0) ** 2)
            return outside + np.minimum(np.maximum(across, along), 0)
    raise AssertionError(item.kind)


def colour(item: SceneObject, point: Vector) -> Array:
    """Colours [3, ...] of points of the surface, in the object's own frame."""
    x, y, z = point
    own = PALETTE.get(item.colour) or MATERIALS[item.colour]
    match item.kind:
        case "tree":
            is_wood = sphere_distance(point, item.half_width, item.half_width - item.height) > _MARGIN
        case "fir":
            is_wood = y > -TRUNK * item.height + _MARGIN
            is_wood &= x * x + z * z < (1.5 * TRUNK * item.half_width) ** 2
        case "house":
            return _house_colour(item, point, own)
        case _:
            is_wood = np.zeros(np.shape(x), bool)
    return np.where(is_wood, _planar(MATERIALS["wood"]), _planar(own))


def _planar(rgb: RGB) -> Array:
    return np.asarray(rgb, np.float32)[:, None, None]


def _crown(item: SceneObject) -> tuple[float, float]:
    """Height of the middle of a tree's crown, and its trunk's radius."""
    return item.height - item.half_width, TRUNK * item.half_width


def _boulders(item: SceneObject) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """x, y and radius of the two spheres of a rock, which both reach into the ground."""
    large, small = 0.75 * item.half_width, 0.5 * item.half_width
    return (-0.25 * item.half_width, large - item.height, large), (
        0.5 * item.half_width,
        small - 0.6 * item.height,
        small,
    )


def _with_trunk(
    crown: tuple[Array, Vector], o: Vector, d: Vector, radius: float, height: float
) -> tuple[Array, Vector]:
    """The first hit of a crown or a trunk; rays are cast at the trunk only where they pass near its axis."""
    cross, flat = o[0] * d[2] - o[2] * d[0], d[0] * d[0] + d[2] * d[2]
    near = np.broadcast_to(cross * cross < radius * radius * flat, crown[0].shape)
    if near.ndim != 2 or not near.any():
        return _nearer(crown, cylinder(o, d, radius, height)) if near.any() else crown
    (top, bottom), (left, right) = (np.flatnonzero(near.any(axis))[[0, -1]] for axis in (1, 0))
    at = (slice(top, bottom + 1), slice(left, right + 1))

    def cut(vector: Vector) -> Vector:
        x, y, z = (np.broadcast_to(part, near.shape)[at] for part in vector)
        return x, y, z

    t, normal = _nearer((crown[0][at], cut(crown[1])), cylinder(cut(o), cut(d), radius, height))
    depth, whole = crown[0].copy(), [np.array(np.broadcast_to(part, near.shape)) for part in crown[1]]
    depth[at] = t
    for part, value in zip(whole, normal, strict=True):
        part[at] = value
    return depth, (whole[0], whole[1], whole[2])


def _nearer(one: tuple[Array, Vector], other: tuple[Array, Vector]) -> tuple[Array, Vector]:
    is_one = one[0] <= other[0]
    normal = tuple(np.where(is_one, a, b) for a, b in zip(one[1], other[1], strict=True))
    return np.minimum(one[0], other[0]), (normal[0], normal[1], normal[2])


def _house_planes(item: SceneObject) -> list[tuple[tuple[float, float, float], float]]:
    """Outward normals and offsets n.p of a house: floor, four walls, two sides of a roof whose ridge lies along z."""
    rise = (1 - EAVES) * item.height
    slant = float(np.hypot(rise, item.half_width))
    over, up = rise / slant, item.half_width / slant
    return [
        ((1.0, 0.0, 0.0), item.half_width),
        ((-1.0, 0.0, 0.0), item.half_width),
        ((0.0, 0.0, 1.0), item.half_depth),
        ((0.0, 0.0, -1.0), item.half_depth),
        ((0.0, 1.0, 0.0), 0.0),
        ((over, -up, 0.0), up * item.height),
        ((-over, -up, 0.0), up * item.height),
    ]


def _house(item: SceneObject, o: Vector, d: Vector) -> tuple[Array, Vector]:
    """A convex solid: a ray is inside between the last plane through which it enters and the first where it leaves."""
    shape = np.broadcast_shapes(*(np.shape(part) for part in (*o, *d)))
    enter, leave = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    normal = [np.zeros(shape, np.float32) for _ in range(3)]
    for direction, offset in _house_planes(item):
        used = [(axis, np.float32(n)) for axis, n in enumerate(direction) if n]
        speed, height = sum(n * d[axis] for axis, n in used), sum(n * o[axis] for axis, n in used) - np.float32(offset)
        t = -height / np.where(np.abs(speed) < 1e-9, np.float32(1e-9), speed)
        later = (speed < 0) & (t > enter)
        enter = np.where(later, t, enter)
        leave = np.where(speed >= 0, np.minimum(leave, t), leave)
        for axis in range(3):
            normal[axis] = np.where(later, np.float32(direction[axis]), normal[axis])
    t = np.where((enter < leave) & (enter > NEAR), enter, np.float32(np.inf))
    return t, (normal[0], normal[1], normal[2])


def _gable_distance(x: Array, y: Array, half_width: float, height: float) -> Array:
    """Signed distance to a house's outline in the plane across the ridge, for x >= 0: the polygon `corners`."""
    wall = EAVES * height
    corners = [(0.0, 0.0), (half_width, 0.0), (half_width, -wall), (0.0, -height)]
    nearest = np.full(np.broadcast_shapes(np.shape(x), np.shape(y)), np.inf)
    for (ax, ay), (bx, by) in pairwise(corners):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
    under_roof = -y <= height - (height - wall) * x / half_width
    return np.where((x <= half_width) & (y <= 0) & under_roof, -nearest, nearest)


def _house_colour(item: SceneObject, point: Vector, wall: RGB) -> Array:
    """Slate on the roof, a door in the gable towards -z, and lit windows beside it and in the long walls."""
    x, y, z = point
    up = -y * np.float32(1 / (EAVES * item.height))  # 0 at the floor, 1 at the eaves
    is_front = z < -item.half_depth + _MARGIN
    is_side = np.abs(x) > item.half_width - _MARGIN
    across, along = x * np.float32(1 / item.half_width), z * np.float32(1 / item.half_depth)
    is_door = is_front & (np.abs(across) < 0.24) & (up < 0.72)
    is_pane = (
        (up > 0.42)
        & (up < 0.78)
        & ((is_front & (np.abs(np.abs(across) - 0.64) < 0.17)) | (is_side & (np.abs(np.abs(along) - 0.45) < 0.18)))
    )
    roof_height = item.height - (1 - EAVES) * item.height * np.abs(across)
    is_roof = (-y > roof_height - _MARGIN) & ~is_side & (np.abs(along) < 1 - 0.5 * _MARGIN)
    painted = np.where(is_roof, _planar(MATERIALS["slate"]), _planar(wall))
    painted = np.where(is_pane, _planar(_WINDOW), painted)
    return np.where(is_door, _planar(_DOOR), painted)
