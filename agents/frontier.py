"""Greedy exploration: flies the move that shows most new space for each metre, judged from poses alone."""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from cc2env import rewards
from cc2env.actions import to_poses

# shares of the bounds
_PANS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_WAYS = (  # right, down, forward, tilt
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.4, 0.0),
    (0.0, 0.0, 0.8, 0.0),
    (0.0, -0.2, 0.3, 0.3),
    (0.0, 0.2, 0.3, -0.3),
    (0.4, 0.0, 0.0, 0.0),
    (-0.4, 0.0, 0.0, 0.0),
)


class FrontierPolicy:
    """Keeps a map of the space that its camera has seen, and flies where most is new; greedy, one clip ahead.

    It uses only its poses and intrinsics from `info`. It knows nothing of the scene, and occlusion is ignored, as in
    `cc2env.tasks.Explore`. To choose a move, two poses of each clip are enough.

    The map keeps the views of each clip apart, so that it stays right after the environment goes back to an earlier
    moment of the episode. It lacks clips that were flown without the policy, before a restored snapshot.

    Args:
        action_space: The environment's action space.
        reach: Metres of depth that count as seen.
        voxel: Edge of a cell of the map in metres.
        shortest: Least metres to divide by, so that turning on the spot is no division by zero.
        extent: Width in metres of the region to explore, round the start; its height is a quarter.

    Raises:
        ValueError: A length is not positive.
    """

    def __init__(
        self,
        action_space: Box,
        reach: float = 4.0,
        voxel: float = 0.5,
        shortest: float = 1.0,
        extent: float = 64.0,
    ) -> None:
        for name, value in (("reach", reach), ("voxel", voxel), ("shortest", shortest), ("extent", extent)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a positive number of metres, got {value}")
        self.reach, self.voxel, self.shortest = reach, voxel, shortest
        self._half = np.array([extent, extent / 4, extent]) / voxel / 2
        self.actions = fan_of_moves(action_space)
        # poses of each move relative to its start [m, p, 4, 4]
        start = torch.eye(4, dtype=torch.float64).expand(len(self.actions), 4, 4)
        self._motions = to_poses(start, torch.from_numpy(self.actions)).numpy()
        self._seen: list[set[int]] = []  # the cells in view in each clip of the episode, one number for each cell

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the move that shows most new space for each metre; of equal moves the first."""
        clip_index = int(info["clip_index"])
        poses, intrinsics = np.asarray(info["achieved_c2w"], np.float64), np.asarray(info["intrinsics"])
        del self._seen[clip_index:]  # the episode began anew or went back
        self._seen += [set() for _ in range(clip_index - len(self._seen))]
        self._seen.append(set(self._cells(poses, intrinsics)))
        known = np.fromiter(set().union(*self._seen), np.int64)
        gains = [self._gain(poses[-1] @ motion, poses[-1], intrinsics, known) for motion in self._motions]
        return self.actions[int(np.argmax(gains))].copy()

    def _gain(self, c2w: np.ndarray, start: np.ndarray, intrinsics: np.ndarray, known: np.ndarray) -> float:
        cells = self._cells(c2w[1::2], intrinsics)
        new = len(cells) - int(np.isin(cells, known, assume_unique=True).sum())
        length = rewards.path_length(start.astype(np.float32), c2w.astype(np.float32))
        return rewards.coverage_per_metre(new * self.voxel**3, length, self.shortest)

    def _cells(self, c2w: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
        """Cells in view inside of the region, each as one number."""
        index = rewards.view_voxels(c2w.astype(np.float32), intrinsics.astype(np.float32), self.reach, self.voxel)
        index = index[((index >= -self._half) & (index < self._half)).all(axis=1)] + (1 << 20)
        numbers: np.ndarray = (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]
        return numbers


def fan_of_moves(action_space: Box) -> np.ndarray:
    """Returns the moves to choose among, float32 [m, p, 6]: one twist a clip, every pan with every way."""
    high: np.ndarray = action_space.high
    shares = [(x, y, z, tilt, pan, 0.0) for x, y, z, tilt in _WAYS for pan in _PANS]
    moves: np.ndarray = (np.array(shares)[:, None] * high[None]).astype(np.float32)
    return moves
