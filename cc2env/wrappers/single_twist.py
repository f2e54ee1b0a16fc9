"""One twist for a whole clip: six numbers instead of 24."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformAction

from cc2env.actions import check_action
from cc2env.spaces import twist_bounds
from cc2env.wrappers.discrete import check_twists


class SingleTwist(TransformAction[np.ndarray, Any, np.ndarray]):
    """Actions are one twist, `Box(6,)` with the bounds of a latent pose, flown for every pose of the clip.

    The camera draws a screw: metres and radians add up over the clip.

    Args:
        env: A CameraCtrlWorld, its actions as they are.

    Raises:
        ValueError: The actions are no twists.
    """

    def __init__(self, env: gym.Env[Any, np.ndarray]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        self._poses = check_twists(env)
        super().__init__(env, self._repeated, Box(-twist_bounds(), twist_bounds(), dtype=np.float32))

    def _repeated(self, action: Any) -> np.ndarray:
        """Returns the twist, once for each latent pose.

        Raises:
            ValueError: It has a wrong shape or type, or a number that is not finite or out of bounds.
        """
        twists: np.ndarray = np.tile(check_action(action, (6,)), (self._poses, 1))
        return twists
