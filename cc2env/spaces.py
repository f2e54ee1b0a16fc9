"""The action and observation spaces: bounds in metres and radians, never dependent on data."""

import numpy as np
from gymnasium.spaces import Box

MAX_TRANSLATION = 0.6  # metres along one axis for each latent pose (a third of a second)
MAX_ROTATION = 0.2  # radians about one axis for each latent pose


def twist_bounds() -> np.ndarray:
    """Returns the largest magnitude of each component of a twist, float32 [6]: three metres, three radians."""
    return np.array([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3, dtype=np.float32)


def action_space(poses_per_clip: int) -> Box:
    """Returns the space of one clip's commands: a twist [6] for each of its latent poses."""
    high = np.tile(twist_bounds(), (poses_per_clip, 1))
    return Box(-high, high, dtype=np.float32)


def observation_space(frames_per_clip: int, height: int, width: int) -> Box:
    """Returns the space of one clip's frames, uint8 RGB."""
    return Box(0, 255, (frames_per_clip, height, width, 3), np.uint8)
