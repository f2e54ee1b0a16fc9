"""The solids that stand on the ground of a scene: their kinds, sizes and places."""

import math
from dataclasses import dataclass

import numpy as np

from model.data.synthetic.motion import Motion

# Half width from, to, and height from, to, of every kind of object, metres; a sphere and a dome are as high as wide.
OBJECT_SIZES: dict[str, tuple[float, float, float, float]] = {
    "box": (0.45, 0.80, 0.8, 1.6),
    "pillar": (0.28, 0.42, 2.0, 3.0),
    "sphere": (0.45, 0.80, 0.0, 0.0),
    "cylinder": (0.50, 0.85, 0.6, 1.3),
    "cone": (0.55, 0.90, 1.2, 2.3),
    "dome": (0.80, 1.50, 0.0, 0.0),
}
# Kinds that only the style "landscape" has; none of them moves. The half width of trees and firs is their crown's.
SCENERY_SIZES: dict[str, tuple[float, float, float, float]] = {
    "tree": (0.60, 1.00, 2.2, 3.2),
    "fir": (0.60, 0.95, 2.4, 3.6),
    "rock": (0.45, 1.00, 0.4, 0.7),
    "house": (1.00, 1.45, 2.2, 2.9),
}
START_CLEARANCE = 2.2  # metres between the start and any surface, at any time
TRUNK = 0.16  # a trunk's radius / the half width; visible height of a fir's trunk / the fir's height
EAVES = 0.62  # height of a house's walls, as a share


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """A solid standing on the ground; round ones have half_width == half_depth == radius."""

    kind: str  # one of OBJECT_SIZES or SCENERY_SIZES
    colour: str  # a name in PALETTE or MATERIALS
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
        return math.hypot(self.half_width, self.half_depth) if self.kind in ("box", "house") else self.half_width

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


def are_apart(a: SceneObject, b: SceneObject) -> bool:
    """Whether two objects stay more than half a metre apart at all times."""
    return math.hypot(a.x - b.x, a.z - b.z) > a.swept_radius + b.swept_radius + 0.5


def sample_object(rng: np.random.Generator, kind: str, colour: str, scale: float = 1.0) -> SceneObject:
    """A resting object of a kind at the origin, in metres."""
    low, high, low_height, high_height = (OBJECT_SIZES | SCENERY_SIZES)[kind]
    half_width = scale * float(rng.uniform(low, high))
    half_depth = scale * float(rng.uniform(low, high)) if kind in ("box", "house") else half_width
    height = scale * float(rng.uniform(low_height, high_height))
    height = {"sphere": 2 * half_width, "dome": half_width}.get(kind, height)
    yaw = float(rng.uniform(0, np.pi / 2))
    return SceneObject(
        kind=kind, colour=colour, x=0.0, z=0.0, half_width=half_width, half_depth=half_depth, height=height, yaw=yaw
    )
