"""Where to be instead of how to move: actions are poses in the world frame."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box

from cc2env.geometry import se3
from cc2env.spaces import twist_bounds
from cc2env.wrappers.discrete import check_twists

_ROUNDING = 1e-5  # metres and radians: a pose that was flown at full speed may come back that much over


class AbsolutePoses(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray], gym.utils.RecordConstructorArgs):
    """Actions are camera-to-world poses, `Box(poses_per_clip, 4, 4)`: a trajectory in the world frame, metres.

    The world frame is the camera of the first frame. A pose that is farther from the one before than a twist's bounds
    (0.6 m along an axis, 0.2 rad about one) is an error, never clipped: spread it over more poses. `sample` of the
    space gives matrices that are no poses; draw them yourself.

    Args:
        env: A CameraCtrlWorld, its actions as they are.

    Raises:
        ValueError: The actions are no twists.
    """

    def __init__(self, env: gym.Env[np.ndarray, np.ndarray]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._poses = check_twists(env)
        self._here = np.eye(4, dtype=np.float32)
        self.action_space = Box(-np.inf, np.inf, (self._poses, 4, 4), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Opens a new episode at the identity."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._here = info["achieved_c2w"][-1].copy()
        return observation, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Flies through the poses.

        Raises:
            ValueError: They are no poses, or too far apart; the episode stays where it was.
        """
        observation, reward, terminated, truncated, info = self.env.step(self._twists(action))
        self._here = info["achieved_c2w"][-1].copy()
        return observation, reward, terminated, truncated, info

    def _twists(self, action: Any) -> np.ndarray:
        given = np.asarray(action)
        if given.shape != (self._poses, 4, 4) or not np.issubdtype(given.dtype, np.floating):
            raise ValueError(
                f"action: expected float poses of shape {(self._poses, 4, 4)}, got {given.dtype} {given.shape}; "
                "give one camera-to-world matrix for each latent pose"
            )
        poses = torch.from_numpy(np.concatenate([self._here[None], given]).astype(np.float64))
        se3.check_poses("action", poses)
        twists: np.ndarray = se3.log(se3.relative(poses[:-1], poses[1:])).numpy()
        bounds = twist_bounds()
        if (np.abs(twists) > bounds + _ROUNDING).any():
            pose, axis = (int(i) for i in np.unravel_index(np.argmax(np.abs(twists) / bounds), twists.shape))
            unit = "m" if axis < 3 else "rad"
            raise ValueError(
                f"action: expected moves of at most {bounds[axis]:g} {unit} along or about an axis for each pose, got "
                f"{abs(twists[pose, axis]):g} before pose {pose}; spread the move over more poses"
            )
        return np.clip(twists, -bounds, bounds).astype(np.float32)
