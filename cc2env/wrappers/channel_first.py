"""Channels where PyTorch's convolutions expect them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation

from cc2env.wrappers.discrete import check_single


class ChannelFirst(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations [..., height, width, 3] become [..., 3, height, width]: clips and single frames alike.

    Args:
        env: An environment whose observations are RGB pictures.

    Raises:
        ValueError: They are something else.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any]) -> None:
        check_single(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) < 3 or space.shape[-1] != 3:
            raise ValueError(
                f"env: expected observations (..., height, width, 3), got {space}; put this wrapper inside"
            )
        moved = Box(np.moveaxis(space.low, -1, -3), np.moveaxis(space.high, -1, -3), dtype=np.uint8)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env, _move_channels, moved)


def _move_channels(pictures: np.ndarray) -> np.ndarray:
    return np.moveaxis(pictures, -1, -3).copy()
