"""What an agent is: something that acts on what it sees."""

from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """Chooses actions. A policy keeps no count of its own: `info["clip_index"]` tells where the episode is, so that it
    stays right after the environment is restored to a snapshot."""

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the next action [poses_per_clip, 6], float32, for the last observation and info."""
        ...
