"""Wrappers of observations: fewer frames of each clip, another size, channels first."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation
from PIL import Image

from cc2env.wrappers.twists import check_single


class FrameSkip(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are every `every`-th frame of the clip, counted so that the last one stays.

    With `every=4` and the tiny world's clips, these are the frames at the commanded poses.

    Args:
        env: An environment whose observations are clips.
        every: Keeps one of this many frames; it divides the length of the clip.

    Raises:
        ValueError: The observations are no clips, or `every` does not divide their length.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], every: int = 4) -> None:
        space = clip_space(env)
        if every < 1 or len(space.low) % every:
            raise ValueError(f"every: expected a positive divisor of the clip's {len(space.low)} frames, got {every}")
        kept = slice(every - 1, None, every)
        gym.utils.RecordConstructorArgs.__init__(self, every=every)
        super().__init__(env, partial(_take, kept=kept), Box(space.low[kept], space.high[kept], dtype=np.uint8))


class LastFrame(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are the last frame of the clip, uint8 [height, width, 3].

    Gymnasium's own `GrayscaleObservation`, `ResizeObservation` and `FrameStackObservation` work on top of it.

    Args:
        env: An environment whose observations are clips.

    Raises:
        ValueError: The observations are no clips.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any]) -> None:
        space = clip_space(env)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env, partial(_take, kept=-1), Box(space.low[-1], space.high[-1], dtype=np.uint8))


class ResizeClip(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are clips of `height` x `width`, each pixel the mean of the area it covers.

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
        length = len(clip_space(env).low)
        if height < 1 or width < 1:
            raise ValueError(f"height, width: expected at least 1 pixel each, got {height} and {width}")
        gym.utils.RecordConstructorArgs.__init__(self, height=height, width=width)
        space = Box(0, 255, (length, height, width, 3), np.uint8)
        super().__init__(env, partial(_resize, height=height, width=width), space)


class ChannelFirst(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations [..., height, width, 3] become [..., 3, height, width]: clips and single frames alike.

    Args:
        env: An environment whose observations are RGB pictures.

    Raises:
        ValueError: The observations are no pictures.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any]) -> None:
        check_single(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) < 3 or space.shape[-1] != 3:
            raise ValueError(
                f"env: expected observations (..., height, width, 3), got {space}; put this wrapper inside"
            )
        moved = Box(_move_channels(space.low), _move_channels(space.high), dtype=np.uint8)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env, _move_channels, moved)


def clip_space(env: gym.Env[Any, Any]) -> Box:
    """Returns the space of the environment's clips.

    Raises:
        ValueError: Its observations are not uint8 [frames, height, width, 3].
    """
    check_single(env)
    space = env.observation_space
    if not isinstance(space, Box) or len(space.shape) != 4 or space.shape[3] != 3 or space.dtype != np.uint8:
        raise ValueError(
            f"env: expected observations uint8 (frames, height, width, 3), got {space}; put this wrapper inside"
        )
    return space


def _take(clip: np.ndarray, kept: int | slice) -> np.ndarray:
    frames: np.ndarray = clip[kept].copy()
    return frames


def _resize(clip: np.ndarray, height: int, width: int) -> np.ndarray:
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BOX) for frame in clip]
    return np.stack([np.asarray(picture) for picture in pictures])


def _move_channels(pictures: np.ndarray) -> np.ndarray:
    return np.moveaxis(pictures, -1, -3).copy()
