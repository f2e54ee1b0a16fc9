"""Intersects rays with spheres, boxes, cylinders and cones, and measures exact distances, in the object's frame.

Array shapes, frames and rays are those of `model.data.synthetic.shapes`.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Vector = tuple[Array, Array, Array]
NEAR = 0.02  # in lengths of the direction


def sphere(o: Vector, d: Vector, radius: float, centre_y: float) -> tuple[Array, Vector]:
    """First hit and normal; the centre is on the vertical axis."""
    oy = o[1] - centre_y
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + oy * d[1] + o[2] * d[2]
    c = o[0] * o[0] + oy * oy + o[2] * o[2] - radius * radius
    under_root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(under_root, 0))) / a
    t = np.where((under_root > 0) & (t > NEAR), t, np.float32(np.inf))
    reach = np.where(np.isfinite(t), t, 0)
    scale = 1 / radius
    return t, ((o[0] + reach * d[0]) * scale, (oy + reach * d[1]) * scale, (o[2] + reach * d[2]) * scale)


def box(o: Vector, d: Vector, size: tuple[float, float, float]) -> tuple[Array, Vector]:
    """First hit and normal; `size` is half width, height and half depth."""
    half_x, height, half_z = size
    oy = o[1] + height / 2
    entry, leave = [], []
    for start, way, half in ((o[0], d[0], half_x), (oy, d[1], height / 2), (o[2], d[2], half_z)):
        inverse = 1 / np.where(np.abs(way) < 1e-9, np.float32(1e-9), way)
        middle, spread = -start * inverse, half * np.abs(inverse)
        entry.append(middle - spread)
        leave.append(middle + spread)
    t = np.maximum(np.maximum(entry[0], entry[1]), entry[2])
    far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    on_x, on_y = entry[0] >= t, entry[1] >= t
    nx = np.where(on_x, -np.sign(d[0]), 0)
    ny = np.where(on_y & ~on_x, -np.sign(d[1]), 0)
    nz = np.where(on_x | on_y, 0, -np.sign(d[2]))
    return np.where((t < far) & (t > NEAR), t, np.float32(np.inf)), (nx, ny, nz)


def cylinder(o: Vector, d: Vector, radius: float, height: float) -> tuple[Array, Vector]:
    """First hit with the side or the top, and normal."""
    a = d[0] * d[0] + d[2] * d[2] + 1e-12
    b = o[0] * d[0] + o[2] * d[2]
    c = o[0] * o[0] + o[2] * o[2] - radius * radius
    under_root = b * b - a * c
    side = (-b - np.sqrt(np.maximum(under_root, 0))) / a
    y = o[1] + side * d[1]
    on_side = (under_root > 0) & (side > NEAR) & (y <= 0) & (y >= -height)
    top = (-height - o[1]) / np.where(np.abs(d[1]) < 1e-9, np.float32(1e-9), d[1])
    top_x, top_z = o[0] + top * d[0], o[2] + top * d[2]
    on_top = (top_x * top_x + top_z * top_z < radius * radius) & (top > NEAR) & (d[1] > 0)
    t = np.where(on_side, side, np.where(on_top, top, np.float32(np.inf)))
    reach = np.where(on_side, side, 0)
    scale = 1 / radius
    nx = np.where(on_side, (o[0] + reach * d[0]) * scale, 0)
    nz = np.where(on_side, (o[2] + reach * d[2]) * scale, 0)
    return t, (nx, np.where(on_side, 0, np.float32(-1)), nz)


def cone(o: Vector, d: Vector, radius: float, height: float) -> tuple[Array, Vector]:
    """First hit with the mantle, and normal."""
    slope = radius / height
    oy = o[1] + height  # from the apex, downwards
    a = d[0] * d[0] + d[2] * d[2] - slope * slope * d[1] * d[1]
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = o[0] * d[0] + o[2] * d[2] - slope * slope * oy * d[1]
    c = o[0] * o[0] + o[2] * o[2] - slope * slope * oy * oy
    under_root = b * b - a * c
    root = np.sqrt(np.maximum(under_root, 0))
    t = np.full(np.broadcast_shapes(np.shape(a), np.shape(c)), np.inf, dtype=np.result_type(a, np.float32))
    for candidate in ((-b - root) / a, (-b + root) / a):
        y = oy + candidate * d[1]
        valid = (under_root > 0) & (candidate > NEAR) & (y > 0) & (y <= height) & (candidate < t)
        t = np.where(valid, candidate, t)
    outside = np.where(c > 0, t, np.float32(np.inf))
    reach = np.where(np.isfinite(outside), outside, 0)
    px, pz, depth = o[0] + reach * d[0], o[2] + reach * d[2], oy + reach * d[1]
    flat = 1 / np.sqrt(1 + slope * slope)
    scale = flat / np.maximum(np.abs(slope * depth), 1e-6)
    return outside, (px * scale, np.full_like(px, -slope * flat), pz * scale)


def sphere_distance(point: Vector, radius: float, centre_y: float) -> Array:
    """Signed distance to a sphere whose centre is on the vertical axis."""
    x, y, z = point
    return np.sqrt(x * x + (y - centre_y) ** 2 + z * z) - radius


def cylinder_distance(point: Vector, radius: float, height: float) -> Array:
    """Signed distance to an upright cylinder that stands on the ground."""
    x, y, z = point
    half = height / 2
    qr, qy = np.sqrt(x * x + z * z) - radius, np.abs(y + half) - half
    return np.sqrt(np.maximum(qr, 0) ** 2 + np.maximum(qy, 0) ** 2) + np.minimum(np.maximum(qr, qy), 0)


def box_distance(point: Vector, size: tuple[float, float, float]) -> Array:
    """Signed distance to a box that stands on the ground; `size` is half width, height and half depth."""
    half_x, height, half_z = size
    half = height / 2
    qx, qy, qz = np.abs(point[0]) - half_x, np.abs(point[1] + half) - half, np.abs(point[2]) - half_z
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
    return outside + np.minimum(np.maximum(np.maximum(qx, qy), qz), 0)


def cone_distance(rho: Array, y: Array, radius: float, height: float) -> Array:
    """Signed distance to a cone at `rho` from its axis.

    In the half plane of the axis the cone is the triangle (0, -height), (radius, 0), (0, 0).
    """
    along = np.clip((rho * radius + (y + height) * height) / (radius**2 + height**2), 0, 1)
    to_side = np.hypot(rho - along * radius, y + height - along * height)
    to_base = np.hypot(rho - np.clip(rho, 0, radius), y)
    inside = (y <= 0) & (y >= -height) & (rho <= radius * (y + height) / height)
    nearest = np.minimum(to_side, to_base)
    return np.where(inside, -nearest, nearest)
