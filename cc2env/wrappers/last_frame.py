"""Only where the camera has come to: one picture for a clip."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TransformObservation

from cc2env.wrappers.frame_skip import check_clips, select_frames, take


class LastFrame(TransformObservation[np.ndarray, Any, np.ndarray]):
    """Observations are the last frame of the clip, uint8 [height, width, 3].

    Gymnasium's own `GrayscaleObservation`, `ResizeObservation` and `FrameStackObservation` work on top of it.

    Args:
        env: An environment whose observations are clips.

    Raises:
        ValueError: They are something else.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any]) -> None:
        check_clips(env)
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env, partial(take, kept=-1), select_frames(env, -1))
