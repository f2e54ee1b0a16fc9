"""Flies a given trajectory: every pose of the file becomes a latent pose, and the camera ends exactly on its path."""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from cc2env.actions import pieces_needed
from cc2env.geometry import CameraTrajectory


class FollowPolicy:
    """Turns a trajectory into clips of actions; after its end the camera stands still.

    The first pose becomes the identity (the episode's world frame). If two poses are further apart than one twist may
    go, every segment is divided into the same number of `pieces`, so that relative speeds stay as they are.

    Args:
        action_space: The environment's action space.
        trajectory: Camera-to-world poses in metres, one for each latent pose (a third of a second).
        stride: Takes every stride-th pose only.
        scale: Metres in one unit of the file.

    Attributes:
        trajectory: The path that is flown, from the identity on.
        pieces: How many poses replace each given one; 1 if it was not resampled.

    Raises:
        ValueError: Less than two poses are left, stride is less than 1, or scale is not positive.
    """

    def __init__(self, action_space: Box, trajectory: CameraTrajectory, stride: int = 1, scale: float = 1.0) -> None:
        if stride < 1:
            raise ValueError(f"stride: expected an integer of at least 1, got {stride}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale: expected a positive number of metres for each unit, got {scale}")
        num_given = len(trajectory)
        trajectory = trajectory[::stride]
        if len(trajectory) < 2:
            raise ValueError(
                f"trajectory: expected at least 2 poses, got {num_given} with stride={stride}; give a longer one"
            )
        path = trajectory.to(dtype=torch.float64).rebase().scaled(scale)
        # the file's own coordinates were rounded, before its first pose became the identity
        size = scale * float(trajectory.c2w[:, :3, 3].abs().max())
        self.high: np.ndarray = action_space.high
        self.pieces = pieces_needed(path, self.high[0], size)
        self.trajectory = path if self.pieces == 1 else path.resample((len(path) - 1) * self.pieces + 1)
        bounds = torch.from_numpy(self.high[0])
        # Clamping removes only rounding errors, where a piece is as long as the bound.
        self._twists: np.ndarray = self.trajectory.twists().float().clamp(-bounds, bounds).numpy()

    @property
    def num_clips(self) -> int:
        """Clips that the whole path takes; the last one may end in standing still."""
        return -(-len(self._twists) // len(self.high))

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the path's twists of the current clip, padded with zeros at its end."""
        first = info["clip_index"] * len(self.high)
        action = np.zeros_like(self.high)
        twists = self._twists[first : first + len(self.high)]
        action[: len(twists)] = twists
        return action
