"""A scene: a theme, a handful of solid objects, some of them moving, and the pose the camera starts from."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.data.synthetic.motion import MOTIONS, Motion, MotionKind
from model.data.synthetic.themes import STYLES, THEMES, Theme

SCENE_RADIUS = 12.0  # metres round the start; trajectories stay inside
VIEW_HALF_ANGLE = math.radians(32)  # "in view at the start", a little inside the default 75 degrees
_START_CLEARANCE = 2.2  # metres between the start and any surface, at any time
# Half width from, to, and height from, to, of every kind of object, metres; a sphere and a dome are as high as wide.
OBJECT_SIZES: dict[str, tuple[float, float, float, float]] = {
    "box": (0.45, 0.80, 0.8, 1.6),
    "pillar": (0.28, 0.42, 2.0, 3.0),
    "sphere": (0.45, 0.80, 0.0, 0.0),
    "cylinder": (0.50, 0.85, 0.6, 1.3),
    "cone": (0.55, 0.90, 1.2, 2.3),
    "dome": (0.80, 1.50, 0.0, 0.0),
}


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """A solid standing on the ground; round ones have half_width == half_depth == radius."""

    kind: str  # one of OBJECT_SIZES
    colour: str  # a name in PALETTE
    x: float
    z: float
    half_width: float
    half_depth: float
    height: float
    yaw: float = 0.0
    hover: float = 0.0  # metres between the ground and its lowest point
    motion: Motion | None = None

    @property
    def radius(self) -> float:
        """Radius of the circle round its footprint, metres."""
        return math.hypot(self.half_width, self.half_depth) if self.kind == "box" else self.half_width

    @property
    def swept_radius(self) -> float:
        """Radius of the circle that it never leaves, metres."""
        return self.radius + (self.motion.reach if self.motion else 0.0)

    @property
    def swept_height(self) -> float:
        """Height that it never exceeds, metres."""
        return self.hover + self.height + (self.motion.lift if self.motion else 0.0)

    @property
    def distance(self) -> float:
        """Metres from the start to its resting place."""
        return math.hypot(self.x, self.z)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything the renderer needs; immutable, hashable, and a pure function of the seed it was sampled from."""

    seed: int
    style: str  # one of themes.STYLES
    theme: Theme
    objects: tuple[SceneObject, ...]
    camera_height: float  # metres above the ground at the start
    sun_azimuth: float  # radians from straight ahead (+z) towards +x
    ground_phases: tuple[float, ...]  # four, radians

    @property
    def start_pose(self) -> Float[Tensor, "4 4"]:
        """c2w of the start: level, looking along +z."""
        pose = torch.eye(4, dtype=torch.float32)
        pose[1, 3] = -self.camera_height
        return pose

    @property
    def sun_direction(self) -> tuple[float, float, float]:
        """Unit vector towards the sun or moon."""
        flat = math.cos(self.theme.sun_elevation)
        return (
            flat * math.sin(self.sun_azimuth),
            -math.sin(self.theme.sun_elevation),
            flat * math.cos(self.sun_azimuth),
        )

    def visible_at_start(self) -> list[SceneObject]:
        """Objects whose centre is inside the middle 64 degrees of the start view, not hidden behind another one."""
        seen: list[SceneObject] = []
        for item in sorted(self.objects, key=lambda item: item.distance):
            bearing = math.atan2(item.x, item.z)
            hidden = any(
                abs(bearing - math.atan2(near.x, near.z)) < math.asin(min(near.radius / near.distance, 1.0))
                and near.height + near.hover > 0.6 * (item.height + item.hover)
                for near in seen
                if not (item.hover and item.motion)
            )
            if abs(bearing) < VIEW_HALF_ANGLE and not hidden:
                seen.append(item)
        return seen


def static_scene(scene: Scene) -> Scene:
    """The same scene without its moving objects."""
    return dataclasses.replace(scene, objects=tuple(item for item in scene.objects if item.motion is None))


def sample_scene(seed: int, style: str = "soft") -> Scene:
    """The scene of a seed; `style` changes texture, fog and the number of objects, never the rest.

    Raises:
        ValueError: the seed is negative or the style unknown.
    """
    if style not in STYLES:
        raise ValueError(f"style: expected 'soft' or 'textured', got {style!r}")
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    rng = np.random.default_rng([0x5CE9E, seed])
    theme = THEMES[int(rng.integers(len(THEMES)))]
    return Scene(  # in the order of drawing
        seed=seed,
        style=style,
        theme=theme,
        sun_azimuth=float(rng.uniform(-1.0, 1.0)) * math.radians(65),
        ground_phases=tuple(rng.uniform(0, 2 * np.pi, 4).tolist()),
        objects=_sample_objects(rng, theme, num_extra=6 if style == "textured" else 0),
        camera_height=float(rng.uniform(1.2, 1.7)),
    )


def _sample_objects(rng: np.random.Generator, theme: Theme, num_extra: int) -> tuple[SceneObject, ...]:
    """Three or four objects ahead, of which one or two move, and three or four round about, of which one may move."""
    num_ahead, num_around = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    num_moving = int(rng.integers(1, 3))
    placed: list[SceneObject] = []
    for index in range(num_ahead + num_around + num_extra):
        ahead = index < num_ahead
        moving = index < num_moving or (index == num_ahead and rng.random() < 0.5)
        for _ in range(40):
            group = _sample_group(rng, theme, moving)
            bearing = rng.uniform(-0.48, 0.48) if ahead else rng.uniform(0.65, 2 * np.pi - 0.65)
            nearest = _START_CLEARANCE + max(item.swept_radius for item in group)
            distance = max(nearest, float(rng.uniform(3.2, 7.5) if ahead else rng.uniform(3.5, 10.5)))
            x, z = distance * math.sin(bearing), distance * math.cos(bearing)
            group = [dataclasses.replace(item, x=x, z=z) for item in group]
            if all(_apart(a, b) for a in group for b in placed):
                placed.extend(group)
                break
    return tuple(placed)


def _apart(a: SceneObject, b: SceneObject) -> bool:
    return math.hypot(a.x - b.x, a.z - b.z) > a.swept_radius + b.swept_radius + 0.5


def _sample_group(rng: np.random.Generator, theme: Theme, moving: bool) -> list[SceneObject]:
    """One object at the origin, or a pillar or cone with a sphere orbiting round it."""
    colour, other = (str(name) for name in rng.choice(theme.colours, 2, replace=False))
    if not moving:
        kind = rng.choice(tuple(OBJECT_SIZES), p=(0.2, 0.2, 0.15, 0.15, 0.15, 0.15))
        return [_sample_object(rng, str(kind), colour)]
    speed = float(rng.uniform(0.4, 1.0))
    match rng.choice(MOTIONS, p=(0.3, 0.2, 0.2, 0.2, 0.1)):
        case "rolling":
            return [_swinging(rng, "sphere", colour, "rolling", speed)]
        case "sliding":
            return [_swinging(rng, str(rng.choice(("box", "cylinder", "cone"))), colour, "sliding", speed)]
        case "orbiting":
            pillar = _sample_object(rng, str(rng.choice(("pillar", "cone"))), other)
            moon = _sample_object(rng, "sphere", colour, scale=0.65)
            circle = pillar.radius + moon.radius + float(rng.uniform(0.4, 0.7))
            period, phase = 2 * np.pi * circle / speed, float(rng.uniform(0, 2 * np.pi))
            motion = Motion(kind="orbiting", amplitude=circle, period=period, phase=phase)
            return [dataclasses.replace(moon, hover=float(rng.uniform(0.3, 0.9)), motion=motion), pillar]
        case "bouncing":
            lift = float(rng.uniform(0.5, 0.9))
            # the start of a bounce is its lowest point at time 0, so a first frame tells what comes next
            motion = Motion(kind="bouncing", amplitude=lift, period=4 * lift / float(rng.uniform(0.8, 1.2)))
            return [dataclasses.replace(_sample_object(rng, "sphere", colour), motion=motion)]
        case _:
            box = _sample_object(rng, "box", colour)
            motion = Motion(kind="spinning", amplitude=0.0, period=2 * np.pi * box.radius / speed)
            return [dataclasses.replace(box, motion=motion)]


def _swinging(rng: np.random.Generator, kind: str, colour: str, motion: MotionKind, speed: float) -> SceneObject:
    """An object on a straight track; at time 0 it passes the middle of it towards +x, so its way can be guessed."""
    item = _sample_object(rng, kind, colour, scale=0.85)
    half_track = float(rng.uniform(0.8, 1.6))
    direction = float(rng.uniform(-1.0, 1.0))
    track = Motion(kind=motion, amplitude=half_track, period=2 * np.pi * half_track / speed, direction=direction)
    return dataclasses.replace(item, motion=track)


def _sample_object(rng: np.random.Generator, kind: str, colour: str, scale: float = 1.0) -> SceneObject:
    """A resting object of a kind at the origin, in metres."""
    low, high, low_height, high_height = OBJECT_SIZES[kind]
    half_width = scale * float(rng.uniform(low, high))
    half_depth = scale * float(rng.uniform(low, high)) if kind == "box" else half_width
    height = scale * float(rng.uniform(low_height, high_height))
    height = {"sphere": 2 * half_width, "dome": half_width}.get(kind, height)
    yaw = float(rng.uniform(0, np.pi / 2))
    return SceneObject(
        kind=kind, colour=colour, x=0.0, z=0.0, half_width=half_width, half_depth=half_depth, height=height, yaw=yaw
    )
