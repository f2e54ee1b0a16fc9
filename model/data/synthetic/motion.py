"""Periodic motions of objects, in closed form of the time."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

MotionKind = Literal["rolling", "sliding", "orbiting", "bouncing", "spinning"]
MOTIONS: tuple[MotionKind, ...] = get_args(MotionKind)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A periodic displacement from an object's resting place.

    Rolling and sliding swing along `direction`, orbiting circles the resting place, bouncing goes straight up and
    spinning only turns about the vertical.
    """

    kind: MotionKind
    amplitude: float  # metres: half the track, radius of the circle or height of the bounce
    period: float  # seconds
    direction: float = 0.0  # radians in the ground plane, from +x towards +z
    phase: float = 0.0  # radians

    def offset(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement [f, 3] in metres at `times` [f] seconds."""
        angle = self._angle(times)
        zero = np.zeros_like(angle)
        match self.kind:
            case "rolling" | "sliding":
                along = self.amplitude * np.sin(angle)
                return np.stack([along * np.cos(self.direction), zero, along * np.sin(self.direction)], -1)
            case "orbiting":
                return np.stack([self.amplitude * np.cos(angle), zero, self.amplitude * np.sin(angle)], -1)
            case "bouncing":
                cycle = np.mod(angle / (2 * np.pi), 1.0)
                return np.stack([zero, -4 * self.amplitude * cycle * (1 - cycle), zero], -1)
            case "spinning":
                return np.stack([zero, zero, zero], -1)

    def turn(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rotation [f] in radians about the vertical at `times` [f]."""
        return self._angle(times) if self.kind == "spinning" else np.zeros_like(times)

    def rolled(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres [f] rolled along `direction` at `times` [f]: the angle is this divided by the radius."""
        return self.amplitude * np.sin(self._angle(times)) if self.kind == "rolling" else np.zeros_like(times)

    def _angle(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2 * np.pi * times / self.period + self.phase

    @property
    def reach(self) -> float:
        """Farthest horizontal displacement in metres."""
        return self.amplitude if self.kind in ("rolling", "sliding", "orbiting") else 0.0

    @property
    def lift(self) -> float:
        """Farthest upward displacement in metres."""
        return self.amplitude if self.kind == "bouncing" else 0.0
