"""Intersects rays with solids and measures distances to them, in the object's frame, with broadcastable numpy arrays.

An object's own frame has the resting point on the ground as origin, y down, and the object's yaw removed. Ray
directions need no unit length: the returned parameter t is in lengths of the direction.
"""

import numpy as np

from model.data.synthetic import primitive_shapes as shapes
from model.data.synthetic import scenery_shapes
from model.data.synthetic.primitive_shapes import Array, Vector
from model.data.synthetic.solids import SCENERY_SIZES, SceneObject


def intersect(item: SceneObject, o: Vector, d: Vector) -> tuple[Array, Vector]:
    """First hit of rays o + t d with an object: (t, unit outward normal); t is inf where the ray misses.

    A ray that starts inside an object does not see it.
    """
    match item.kind:
        case "sphere":
            return shapes.sphere(o, d, item.half_width, -item.half_width)
        case "dome":
            return shapes.sphere(o, d, item.half_width, 0.0)
        case "box":
            return shapes.box(o, d, (item.half_width, item.height, item.half_depth))
        case "cylinder" | "pillar":
            return shapes.cylinder(o, d, item.half_width, item.height)
        case "cone":
            return shapes.cone(o, d, item.half_width, item.height)
    assert item.kind in SCENERY_SIZES, item.kind
    return scenery_shapes.intersect(item, o, d)


def distance(item: SceneObject, point: Vector) -> Array:
    """Exact signed distance in metres from points to an object's surface, negative inside.

    Inside a tree, a fir or a rock, which are unions of solids, it is the distance to the surface of one of them.
    """
    x, y, z = point
    match item.kind:
        case "sphere":
            return shapes.sphere_distance(point, item.half_width, -item.half_width)
        case "dome":
            return shapes.sphere_distance(point, item.half_width, 0.0)
        case "box":
            return shapes.box_distance(point, (item.half_width, item.height, item.half_depth))
        case "cylinder" | "pillar":
            return shapes.cylinder_distance(point, item.half_width, item.height)
        case "cone":
            return shapes.cone_distance(np.sqrt(x * x + z * z), y, item.half_width, item.height)
    assert item.kind in SCENERY_SIZES, item.kind
    return scenery_shapes.distance(item, point)
