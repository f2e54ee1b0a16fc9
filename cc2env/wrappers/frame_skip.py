"""Fewer frames of each clip."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation

from cc2env.wrappers.discrete import check_single


class FrameSkip(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are every `every`-th frame of the clip, counted so that the last one stays.

    With `every=4` and the tiny world's clips, these are the frames at the commanded poses.

    Args:
        env: An environment whose observations are clips.
        every: Frames in the clip for each one that is kept; it divides the length of the clip.

    Raises:
        ValueError: The observations are no clips, or `every` does not divide their length.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], every: int = 4) -> None:
        length = check_clips(env)
        if every < 1 or length % every:
            raise ValueError(f"every: expected a positive divisor of the clip's {length} frames, got {every}")
        kept = slice(every - 1, None, every)
        gym.utils.RecordConstructorArgs.__init__(self, every=every)
        super().__init__(env, partial(take, kept=kept), select_frames(env, kept))


def take(clip: np.ndarray, kept: int | slice) -> np.ndarray:
    """Returns a copy of the chosen frames."""
    frames: np.ndarray = clip[kept].copy()
    return frames


def check_clips(env: gym.Env[Any, Any]) -> int:
    """Returns the number of frames of a clip.

    Raises:
        ValueError: The observations are not uint8 [frames, height, width, 3].
    """
    check_single(env)
    space = env.observation_space
    if not isinstance(space, Box) or len(space.shape) != 4 or space.shape[3] != 3 or space.dtype != np.uint8:
        raise ValueError(
            f"env: expected observations uint8 (frames, height, width, 3), got {space}; put this wrapper inside"
        )
    return int(space.shape[0])


def select_frames(env: gym.Env[Any, Any], kept: int | slice) -> Box:
    """Returns the space of the chosen frames of the environment's clips."""
    space = env.observation_space
    assert isinstance(space, Box), "env: checked by check_clips"
    return Box(space.low[kept], space.high[kept], dtype=np.uint8)
