"""Shadows of the objects' own shapes: rays from the ground towards the sun."""

import math

import numpy as np

from model.data.synthetic.casting import Layout, turned
from model.data.synthetic.primitive_shapes import NEAR
from model.data.synthetic.rays import Array, Camera, Rays, windows
from model.data.synthetic.scene import Scene
from model.data.synthetic.shapes import intersect

_LEAST_ELEVATION = 0.5  # radians; a lower sun would cast shadows of many metres that hide the ground's colours
_LIGHT_IN_SHADOW = 0.58


def darken_by_shadows(
    scene: Scene, camera: Camera, layout: Layout, rays: Rays, rows: slice, depth: Array, light: Array
) -> None:
    """Darkens the light [rows, columns] on the ground at z-depths `depth` in place; shadows do not add up."""
    elevation = max(scene.theme.sun_elevation, _LEAST_ELEVATION)
    flat, slant = math.cos(elevation), 1 / math.tan(elevation)
    towards = (flat * math.sin(scene.sun_azimuth), -math.sin(elevation), flat * math.cos(scene.sun_azimuth))
    sun = tuple(np.asarray(part, np.float32) for part in towards)
    away = np.array([-math.sin(scene.sun_azimuth), 0.0, -math.cos(scene.sun_azimuth)])
    centre = layout.offset + np.array([[item.x, -item.hover, item.z] for item in scene.objects])
    radius = np.array([[item.radius, 0.0, item.radius] for item in scene.objects])
    on_ground = centre * np.array([1.0, 0.0, 1.0])
    foot, tip = (  # the ground that the lowest and the highest point darken
        on_ground + away * (slant * top)[:, None]
        for top in (-centre[:, 1], -centre[:, 1] + np.array([item.height for item in scene.objects]))
    )
    low, high = np.minimum(foot, tip) - radius, np.maximum(foot, tip) + radius
    for index, window in enumerate(windows(camera, low, high)):
        if window is None or window[0].stop <= rows.start or window[0].start >= rows.stop:
            continue
        seen = slice(max(window[0].start, rows.start), min(window[0].stop, rows.stop))
        part = rays.window(seen, window[1])
        inside = (slice(seen.start - rows.start, seen.stop - rows.start), window[1])
        x, z = (depth[inside] * part.direction[axis] + np.float32(rays.origin[axis]) for axis in (0, 2))
        # a step back: rays miss a surface nearer than NEAR, which would leave a bright seam round the foot
        x, y, z = (
            start - np.float32(NEAR) * way - np.float32(middle)
            for start, way, middle in zip((x, np.zeros_like(x), z), sun, centre[index], strict=True)
        )
        o = turned(layout, index, (x, y, z))
        reach, _ = intersect(scene.objects[index], o, turned(layout, index, (sun[0], sun[1], sun[2])))
        np.minimum(light[inside], np.where(np.isfinite(reach), np.float32(_LIGHT_IN_SHADOW), 1), out=light[inside])
