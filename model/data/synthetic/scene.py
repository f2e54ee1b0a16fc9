"""A scene: a theme, a handful of solid objects, some of them moving, and the pose the camera starts from."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.data.synthetic.landscape import NO_SCENERY, Scenery, sample_scenery
from model.data.synthetic.motion import MOTIONS, Motion, MotionKind
from model.data.synthetic.solids import OBJECT_SIZES, START_CLEARANCE, SceneObject, are_apart, sample_object
from model.data.synthetic.themes import THEMES, Theme, known_style

SCENE_RADIUS = 12.0  # metres round the start; trajectories stay inside
VIEW_HALF_ANGLE = math.radians(32)  # "in view at the start", a little inside the default 75 degrees


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
    scenery: Scenery = NO_SCENERY

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
    """The scene of a seed; its theme, its light and its first objects are the same in every style.

    Args:
        seed: Seed of the whole scene.
        style: `soft`; `textured`: with grain, less fog and more objects; `landscape`: fewer objects of plain shapes,
            and trees, rocks and houses, a road or a river, clouds, and shadows cast by the sun.

    Raises:
        ValueError: the seed is negative or the style unknown.
    """
    known_style(style)
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    rng = np.random.default_rng([0x5CE9E, seed])
    theme = THEMES[int(rng.integers(len(THEMES)))]
    scene = Scene(  # in the order of drawing
        seed=seed,
        style=style,
        theme=theme,
        sun_azimuth=float(rng.uniform(-1.0, 1.0)) * math.radians(65),
        ground_phases=tuple(rng.uniform(0, 2 * np.pi, 4).tolist()),
        objects=_sample_objects(rng, theme, num_extra=6 if style == "textured" else 0),
        camera_height=float(rng.uniform(1.2, 1.7)),
    )
    if style != "landscape":
        return scene
    objects, scenery = sample_scenery(seed, theme, scene.objects)
    return dataclasses.replace(scene, objects=objects, scenery=scenery)


def _sample_objects(rng: np.random.Generator, theme: Theme, num_extra: int) -> tuple[SceneObject, ...]:
    """Three or four objects ahead, one or two of them moving; three or four around the start, one of them may move."""
    num_ahead, num_around = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    num_moving = int(rng.integers(1, 3))
    placed: list[SceneObject] = []
    for index in range(num_ahead + num_around + num_extra):
        ahead = index < num_ahead
        moving = index < num_moving or (index == num_ahead and rng.random() < 0.5)
        for _ in range(40):
            group = _sample_group(rng, theme, moving)
            bearing = rng.uniform(-0.48, 0.48) if ahead else rng.uniform(0.65, 2 * np.pi - 0.65)
            nearest = START_CLEARANCE + max(item.swept_radius for item in group)
            distance = max(nearest, float(rng.uniform(3.2, 7.5) if ahead else rng.uniform(3.5, 10.5)))
            x, z = distance * math.sin(bearing), distance * math.cos(bearing)
            group = [dataclasses.replace(item, x=x, z=z) for item in group]
            if all(are_apart(a, b) for a in group for b in placed):
                placed.extend(group)
                break
    return tuple(placed)


def _sample_group(rng: np.random.Generator, theme: Theme, moving: bool) -> list[SceneObject]:
    """One object at the origin, or a pillar or cone with a sphere orbiting round it."""
    colour, other = (str(name) for name in rng.choice(theme.colours, 2, replace=False))
    if not moving:
        kind = rng.choice(tuple(OBJECT_SIZES), p=(0.2, 0.2, 0.15, 0.15, 0.15, 0.15))
        return [sample_object(rng, str(kind), colour)]
    speed = float(rng.uniform(0.4, 1.0))
    match rng.choice(MOTIONS, p=(0.3, 0.2, 0.2, 0.2, 0.1)):
        case "rolling":
            return [_swinging(rng, "sphere", colour, "rolling", speed)]
        case "sliding":
            return [_swinging(rng, str(rng.choice(("box", "cylinder", "cone"))), colour, "sliding", speed)]
        case "orbiting":
            pillar = sample_object(rng, str(rng.choice(("pillar", "cone"))), other)
            moon = sample_object(rng, "sphere", colour, scale=0.65)
            circle = pillar.radius + moon.radius + float(rng.uniform(0.4, 0.7))
            period, phase = 2 * np.pi * circle / speed, float(rng.uniform(0, 2 * np.pi))
            motion = Motion(kind="orbiting", amplitude=circle, period=period, phase=phase)
            return [dataclasses.replace(moon, hover=float(rng.uniform(0.3, 0.9)), motion=motion), pillar]
        case "bouncing":
            lift = float(rng.uniform(0.5, 0.9))
            # at time 0 a bounce starts from its lowest point, so the first frame determines the motion
            motion = Motion(kind="bouncing", amplitude=lift, period=4 * lift / float(rng.uniform(0.8, 1.2)))
            return [dataclasses.replace(sample_object(rng, "sphere", colour), motion=motion)]
        case _:
            box = sample_object(rng, "box", colour)
            motion = Motion(kind="spinning", amplitude=0.0, period=2 * np.pi * box.radius / speed)
            return [dataclasses.replace(box, motion=motion)]


def _swinging(rng: np.random.Generator, kind: str, colour: str, motion: MotionKind, speed: float) -> SceneObject:
    """An object on a straight track; at time 0 it passes the track's middle towards +x, so its way can be guessed."""
    item = sample_object(rng, kind, colour, scale=0.85)
    half_track = float(rng.uniform(0.8, 1.6))
    direction = float(rng.uniform(-1.0, 1.0))
    track = Motion(kind=motion, amplitude=half_track, period=2 * np.pi * half_track / speed, direction=direction)
    return dataclasses.replace(item, motion=track)
