"""Random but smooth camera motion."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box


class RandomPolicy:
    """A random walk of twists whose speed drifts back to rest, inside the bounds of the space.

    Args:
        action_space: The environment's action space.
        seed: The actions are a function of (seed, clip index).
        strength: Typical size of a component, as a share of its bound.
        smoothness: Share of the previous pose's speed that a pose keeps, in [0, 1).

    Raises:
        ValueError: A share is out of range.
    """

    def __init__(self, action_space: Box, seed: int = 0, strength: float = 0.3, smoothness: float = 0.8) -> None:
        if not 0 < strength <= 1:
            raise ValueError(f"strength: expected a share of the bounds in (0, 1], got {strength}")
        if not 0 <= smoothness < 1:
            raise ValueError(f"smoothness: expected a share in [0, 1), got {smoothness}")
        self.high: np.ndarray = action_space.high
        self.seed, self.strength, self.smoothness = seed, strength, smoothness

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the walk's next clip; the walk is drawn again from its start, so a restored episode repeats it."""
        num_poses = len(self.high)
        rng = np.random.default_rng(self.seed)
        push = rng.standard_normal(((info["clip_index"] + 1) * num_poses, 6)) * np.sqrt(1 - self.smoothness**2)
        speed = np.zeros(6)
        walk = []
        for noise in push:
            speed = self.smoothness * speed + noise
            walk.append(speed)
        last = np.stack(walk[-num_poses:]) * self.strength
        clipped: np.ndarray = (np.clip(last, -1, 1) * self.high).astype(np.float32)
        return clipped
