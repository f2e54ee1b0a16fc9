"""Clips of another size."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation
from PIL import Image

from cc2env.wrappers.frame_skip import check_clips


class ResizeClip(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are clips of `height` x `width`, each pixel the mean of what it covers.

    `info["intrinsics"]` are divided by width and height and hold at any size. (Gymnasium's `ResizeObservation` takes
    single pictures: it works on top of `LastFrame`.)

    Args:
        env: An environment whose observations are clips.
        height: Pixels.
        width: Pixels.

    Raises:
        ValueError: The observations are no clips, or a size is less than 1.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], height: int, width: int) -> None:
        length = check_clips(env)
        if height < 1 or width < 1:
            raise ValueError(f"height, width: expected at least 1 pixel each, got {height} and {width}")
        gym.utils.RecordConstructorArgs.__init__(self, height=height, width=width)
        space = Box(0, 255, (length, height, width, 3), np.uint8)
        super().__init__(env, partial(_resize, height=height, width=width), space)


def _resize(clip: np.ndarray, height: int, width: int) -> np.ndarray:
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BOX) for frame in clip]
    return np.stack([np.asarray(picture) for picture in pictures])
