"""Colours of sky, ground and objects: planar float32 arrays [3, rows, columns] for a window of one frame's rays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.synthetic import scenery_shapes
from model.data.synthetic.casting import Layout
from model.data.synthetic.landscape import Path
from model.data.synthetic.motion import Motion
from model.data.synthetic.primitive_shapes import Array as AnyArray
from model.data.synthetic.primitive_shapes import Vector
from model.data.synthetic.rays import Array, Rays
from model.data.synthetic.scene import Scene
from model.data.synthetic.solids import SCENERY_SIZES, SceneObject
from model.data.synthetic.themes import PALETTE, RGB

_FAR = 300.0  # metres; fog hides the ground long before
_ROAD, _RIVER = (0.50, 0.46, 0.43), (0.28, 0.48, 0.68)  # where the ambient light is that of a bright day
_BANK = 0.12  # metres; the edge of a road or river
_HILL_FREQUENCIES = (2, 3, 5)
_HILL_WEIGHTS = (0.45, 0.35, 0.20)
_LATTICE = np.random.default_rng(7).uniform(-1, 1, 32**3).astype(np.float32)


@dataclass(frozen=True)
class Blob:
    """A soft shadow on the ground: an ellipse, long along the sun's azimuth."""

    x: float
    z: float
    radius: float
    half_length: float
    strength: float

    @property
    def reach(self) -> float:
        """Metres from the centre beyond which the shadow is invisible."""
        return 1.5 * max(self.radius, self.half_length)


def _rgb(colour: RGB | NDArray[np.float64]) -> Array:
    return np.asarray(colour, np.float32)[:, None, None]


def haze(scene: Scene, sun_cosine: Array) -> Array:
    """The background's colour: the horizon's, with a soft halo round the sun, above and below the horizon."""
    halo = np.exp((sun_cosine - 1) * np.float32(scene.theme.halo_sharpness))
    return halo * _rgb(scene.theme.halo) + _rgb(scene.theme.horizon)


def _towards_zenith(scene: Scene, colour: Array, elevation: Array) -> None:
    """Adds the vertical gradient of the sky in place; `elevation` is the sine of the ray's elevation."""
    above = np.maximum(elevation, 0)  # below the horizon there is no gradient, and at a sine of -0.30 a pole
    share = above / (above + np.float32(0.30)) * np.float32(1.3)
    colour += share * _rgb(np.subtract(scene.theme.zenith, scene.theme.horizon))


def sky(scene: Scene, rays: Rays, behind: Array) -> Array:
    """Gradient, sun or moon, and a smooth silhouette of hills: all at infinity, so only the direction counts."""
    theme = scene.theme
    dx, dy, dz = rays.direction
    colour = behind.copy()
    _towards_zenith(scene, colour, -dy / rays.length)
    edge = np.cos(theme.disc_radius)
    if rays.sun_cosine.max() > edge - 0.002:
        disc = np.clip((rays.sun_cosine - np.float32(edge - 0.0012)) / np.float32(0.0024), 0, 1)
        colour += disc * disc * (3 - 2 * disc) * _rgb(theme.disc)
    if scene.scenery.clouds > 0:
        _add_clouds(scene, rays, colour)
    flat = np.reciprocal(np.sqrt(dx * dx + dz * dz + np.float32(1e-9)))
    slope = -dy * flat
    if slope.min() > theme.hill_height * 1.1:
        return colour
    ridge = _ridge(scene, dx * flat, dz * flat)
    cover = np.clip((ridge - slope) * np.float32(1 / 0.025) + np.float32(0.5), 0, 1)
    cover *= np.clip(slope * np.float32(1.1 / theme.hill_height) + np.float32(0.25), 0, 1)
    return colour + cover * (_rgb(theme.hills) - colour)


def _add_clouds(scene: Scene, rays: Rays, colour: Array) -> None:
    """Paints soft clouds over the sky in place: noise on a vault, so that they lie flatter towards the horizon."""
    dx, dy, dz = (part / rays.length for part in rays.direction)
    vault = np.float32(1.6) / (np.maximum(-dy, 0) + np.float32(0.22))
    shift = np.float32(5 * scene.ground_phases[0])
    east, north = dx * vault + shift, dz * vault + shift
    noise = _flat_noise(east, north) + np.float32(0.5) * _flat_noise(2 * east + 7, 2 * north + 3)
    cover = np.clip((noise - np.float32(0.45 - 1.2 * scene.scenery.clouds)) * np.float32(1.5), 0, 1)
    cover *= cover * (3 - 2 * cover) * np.clip(-dy * np.float32(7), 0, 1) * np.float32(0.75)
    lit = np.minimum(np.add(scene.theme.horizon, 0.12), 1.0)
    colour += cover * (_rgb(lit) - colour)


def _flat_noise(x: Array, z: Array) -> Array:
    """Value noise in the plane, in [-1, 1], of cells of size 1."""
    left, near = np.floor(x), np.floor(z)
    a, b = x - left, z - near
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    column, row = left.astype(np.int32), near.astype(np.int32)
    low, high = (
        _LATTICE[((row + step) & 31) * 32 + (column & 31)] * (1 - a)
        + _LATTICE[((row + step) & 31) * 32 + ((column + 1) & 31)] * a
        for step in (0, 1)
    )
    return np.asarray(low * (1 - b) + high * b)


def _ridge(scene: Scene, east: Array, north: Array) -> Array:
    """Tangent of the hills' elevation by direction: a few harmonics of the azimuth, counted from the sun's."""
    sine, cosine = np.float32(np.sin(scene.sun_azimuth)), np.float32(np.cos(scene.sun_azimuth))
    real, imaginary = north * cosine + east * sine, east * cosine - north * sine
    power_real, power_imaginary = real, imaginary
    ridge = np.full_like(real, 0.5)
    harmonic = 1
    for frequency, weight in zip(_HILL_FREQUENCIES, _HILL_WEIGHTS, strict=True):
        while harmonic < frequency:
            power_real, power_imaginary = (
                power_real * real - power_imaginary * imaginary,
                power_real * imaginary + power_imaginary * real,
            )
            harmonic += 1
        ridge += np.float32(0.5 * weight) * (power_imaginary if frequency % 2 else -power_real)
    return ridge * np.float32(scene.theme.hill_height)


def ground(scene: Scene, rays: Rays, behind: Array, depth: Array, light: Array) -> Array:
    """Soft patches on the ground, a share of mirrored sky, dimmed by `light` (the shadows), lost in the haze."""
    theme = scene.theme
    dx, dy, dz = rays.direction
    x, z = depth * dx + np.float32(rays.origin[0]), depth * dz + np.float32(rays.origin[2])
    through = _transmittance(scene, depth * rays.length)
    share = _patches(scene, x, z, through)
    colour = share * _rgb(np.subtract(theme.ground_accent, theme.ground)) + _rgb(theme.ground)
    path, gloss = scene.scenery.path, np.asarray(np.float32(theme.gloss))
    if path is not None:
        inwards = np.float32(path.width / 2) - np.abs(path.side(x, z))
        cover = np.clip(inwards * np.float32(1 / _BANK) + np.float32(0.5), 0, 1)
        colour += cover * (_rgb(_path_colour(scene, path)) - colour)
        gloss = gloss + cover * np.float32((0.5 if path.kind == "river" else 0.0) - theme.gloss)
    if gloss.max() > 0:
        sine = dy / rays.length
        mirrored = haze(scene, rays.sun_cosine - np.float32(2 * scene.sun_direction[1]) * sine)
        _towards_zenith(scene, mirrored, sine)
        colour += gloss * (1 - sine) ** 2 * (mirrored - colour)
    return behind + through * (colour * light - behind)


def _path_colour(scene: Scene, path: Path) -> RGB:
    """Colour of a road or river in the theme's light."""
    bright = float(np.mean(scene.theme.ambient)) / 0.64
    red, green, blue = (bright * value for value in (_ROAD if path.kind == "road" else _RIVER))
    return red, green, blue


def _transmittance(scene: Scene, reach: Array) -> Array:
    """Share of light that crosses `reach` metres of air: 1/e at the fog's distance."""
    fog_distance = scene.theme.fog_distance * (2.0 if scene.style == "textured" else 1.0)
    scaled = np.minimum(reach, np.float32(_FAR)) * np.float32(1 / fog_distance)
    return np.exp(-scaled * scaled)


def through_air(scene: Scene, colour: Array, behind: Array, reach: Array) -> Array:
    """The colour of an object behind `reach` metres of air; the theme's veil softens edges, which are hard to learn."""
    veil = 0.0 if scene.style == "textured" else scene.theme.veil
    return behind + _transmittance(scene, reach) * np.float32(1 - veil) * (colour - behind)


def _patches(scene: Scene, x: Array, z: Array, through: Array) -> Array:
    """Share of the accent colour in [0, 1]: bent waves, faded where they would alias."""
    wave = np.float32(2 * np.pi / scene.theme.patch_size)
    a, b, c, _ = (np.float32(phase) for phase in scene.ground_phases)
    bend = np.sin(wave * (np.float32(0.43) * x - np.float32(0.31) * z) + a)
    first = np.sin(wave * (np.float32(0.35) * x + np.float32(0.80) * z) + np.float32(1.2) * bend + b)
    second = np.sin(wave * (np.float32(0.90) * x - np.float32(0.45) * z) - bend + c)
    share = (first + np.float32(0.7) * second) * (np.float32(0.29) * through) + np.float32(0.5)
    if scene.style == "textured":
        share = share + through * (3.0 * _grain(x, np.zeros_like(x), z, scene.ground_phases[3]))
    return share


def shadow(scene: Scene, item: SceneObject, offset: NDArray[np.float64]) -> Blob:
    """The soft shadow of an object that is `offset` [3] metres from its resting place."""
    lift = float(-offset[1]) + item.hover
    slant = min(1.0 / np.tan(scene.theme.sun_elevation), 1.6)
    length = min(item.height * 0.5 * slant, 1.2 * item.half_width + 0.2)
    shift = 0.5 * length + min(lift * 0.5 * slant, 1.0)
    radius = max(item.half_width, item.half_depth) * 1.15 + 0.12
    return Blob(
        x=item.x + float(offset[0]) - float(np.sin(scene.sun_azimuth)) * shift,
        z=item.z + float(offset[2]) - float(np.cos(scene.sun_azimuth)) * shift,
        radius=radius,
        half_length=radius + 0.5 * length,
        strength=0.52 / (1 + 1.2 * lift),
    )


def shadow_light(scene: Scene, blob: Blob, x: Array, z: Array) -> Array:
    """Share of light that a shadow leaves at points of the ground, given relative to its centre."""
    sine, cosine = np.float32(np.sin(scene.sun_azimuth)), np.float32(np.cos(scene.sun_azimuth))
    along = (x * sine + z * cosine) * np.float32(1 / blob.half_length)
    side = (x * cosine - z * sine) * np.float32(1 / blob.radius)
    away = along * along + side * side
    return np.asarray(1 - np.float32(blob.strength) * np.exp(-away * away * np.float32(0.9)))


def shade(scene: Scene, index: int, layout: Layout, point: Vector, normal: Vector) -> Array:
    """An object's colour in half-Lambert light and sky light, darker towards the ground; without the air's haze.

    `point` is relative to the resting place on the ground; it and `normal` are in scene axes.
    """
    item, sun = scene.objects[index], scene.sun_direction
    towards = normal[0] * np.float32(sun[0]) + normal[1] * np.float32(sun[1]) + normal[2] * np.float32(sun[2])
    direct = np.float32(0.5) * towards + np.float32(0.5)
    direct = direct * direct
    around = np.float32(0.86) - np.float32(0.14) * normal[1]
    around = around * np.clip(-point[1] * np.float32(0.5) + np.float32(0.74), 0, 1)
    colour, rolled = _colour(item, layout, index, point), layout.rolled[index]
    if item.motion is not None and item.motion.kind == "rolling":
        colour = colour + _pole(item, item.motion, rolled, normal) * (np.float32(0.95) - colour)
    light = direct * _rgb(1.25 * np.array(scene.theme.sun_light)) + around * _rgb(scene.theme.ambient)
    shaded = np.asarray(colour * light, np.float32)
    if scene.style == "textured":
        attached = _attached(item, layout.offset[index], layout.yaw[index], rolled, point)
        shaded *= 1 + np.float32(2.4) * _grain(*attached, scene.ground_phases[3])
    return shaded


def _colour(item: SceneObject, layout: Layout, index: int, point: Vector) -> Array:
    if item.kind not in SCENERY_SIZES:
        return _rgb(PALETTE[item.colour])
    return scenery_shapes.colour(item, _attached(item, layout.offset[index], layout.yaw[index], 0.0, point))


def _pole(item: SceneObject, motion: Motion, rolled: float, normal: Vector) -> Array:
    """A soft pale mark that makes a sphere's rolling visible."""
    angle = rolled / item.half_width
    east, north = np.float32(np.cos(motion.direction)), np.float32(np.sin(motion.direction))
    ahead = normal[0] * east + normal[2] * north
    pole = np.maximum(ahead * np.float32(np.cos(angle)) + normal[1] * np.float32(np.sin(angle)), 0)
    return np.asarray(np.float32(0.55) * pole * pole, np.float32)


def _attached(item: SceneObject, offset: NDArray[np.float64], yaw: float, rolled: float, point: Vector) -> Vector:
    """Points in axes that move and turn with the object, so that its grain does too."""
    x, y, z = (value - np.float32(shift) for value, shift in zip(point, offset, strict=True))
    if rolled and item.motion is not None:
        east, north = np.float32(np.cos(item.motion.direction)), np.float32(np.sin(item.motion.direction))
        angle = rolled / item.half_width
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        ahead, side, down = x * east + z * north, z * east - x * north, y + np.float32(item.half_width)
        ahead, down = ahead * cosine + down * sine, down * cosine - ahead * sine
        return ahead * east - side * north, down, ahead * north + side * east
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    return cosine * x + sine * z, y, cosine * z - sine * x


def _grain(x: AnyArray, y: AnyArray, z: AnyArray, offset: float) -> Array:
    """Three octaves of value noise in metres, about +-0.25: detail for matching points between views."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
    for size, weight in ((0.7, 0.20), (0.28, 0.16), (0.11, 0.10)):
        cells, blends = [], []
        for value in (x, y, z):
            scaled = np.asarray(value, np.float32) / np.float32(size) + np.float32(offset)
            floor = np.floor(scaled)
            blend = scaled - floor
            cells.append(floor.astype(np.int32))
            blends.append(blend * blend * (3 - 2 * blend))
        for corner in range(8):
            steps = (corner & 1, corner >> 1 & 1, corner >> 2)
            index = [(cell + step) & 31 for cell, step in zip(cells, steps, strict=True)]
            part = [blend if step else 1 - blend for blend, step in zip(blends, steps, strict=True)]
            value = _LATTICE[(index[0] * 32 + index[1]) * 32 + index[2]]
            total += np.float32(weight) * value * part[0] * part[1] * part[2]
    return total
