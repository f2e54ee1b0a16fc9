"""Actions as camera poses in the world frame, instead of moves."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box

from cc2env.geometry import se3
from cc2env.spaces import twist_bounds
from cc2env.wrappers.twists import check_twists

if TYPE_CHECKING:
    from cc2env.env import CameraCtrlWorldEnv

# Float32 rounds poses, so one flown at full speed may exceed the bounds a little: by metres and radians near the
# world's origin, and by metres for each metre of the largest coordinate.
_ROUNDING = 1e-5
_ROUNDING_SHARE = 4 * float(np.finfo(np.float32).eps)


class AbsolutePoses(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray], gym.utils.RecordConstructorArgs):
    """Actions are camera-to-world poses, `Box(poses_per_clip, 4, 4)`: a trajectory in the world frame, metres.

    The world frame is the camera of the first frame. A pose that is farther from the one before than a twist's bounds
    (0.6 m along an axis, 0.2 rad about one) is an error, never clipped: spread the move over more poses. Rounding to
    float32 is tolerated, so that poses in `info` can be flown again. `action_space.sample()` gives matrices that are
    no poses; draw poses yourself.

    The first move starts where the environment's camera is, also after `env.unwrapped.restore`.

    Args:
        env: A CameraCtrlWorld with unchanged actions.

    Raises:
        ValueError: The actions are no twists.
    """

    def __init__(self, env: gym.Env[np.ndarray, np.ndarray]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._poses = check_twists(env)
        self.action_space = Box(-np.inf, np.inf, (self._poses, 4, 4), np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Flies through the poses.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: The action is no poses, or they are too far apart; the episode stays where it was.
        """
        return self.env.step(self._twists(action))

    def _twists(self, action: Any) -> np.ndarray:
        given = np.asarray(action)
        if given.shape != (self._poses, 4, 4) or not np.issubdtype(given.dtype, np.floating):
            raise ValueError(
                f"action: expected float poses of shape {(self._poses, 4, 4)}, got {given.dtype} {given.shape}; "
                "give one camera-to-world matrix for each latent pose"
            )
        poses = torch.from_numpy(given.astype(np.float64))
        se3.check_poses("action", poses)
        env: "CameraCtrlWorldEnv" = self.unwrapped  # type: ignore[assignment]
        here = torch.from_numpy(env.c2w).double()
        bounds = torch.from_numpy(twist_bounds()).double()
        allowed = bounds + _ROUNDING
        allowed[:3] += _ROUNDING_SHARE * max(here[:3, 3].abs().max(), poses[:, :3, 3].abs().max())
        twists = []
        for index, pose in enumerate(poses):
            twist = se3.log(se3.relative(here, pose))
            if (twist.abs() > allowed).any():
                axis = int((twist.abs() / bounds).argmax())
                unit = "m" if axis < 3 else "rad"
                raise ValueError(
                    f"action: expected moves of at most {bounds[axis]:g} {unit} along or about an axis for each pose, "
                    f"got {abs(twist[axis]):g} before pose {index}; spread the move over more poses"
                )
            twists.append(twist.clamp(-bounds, bounds))
            # go on from the clamped pose, so that clamping errors do not add up along the path
            here = here @ se3.exp(twists[-1])
        flown: np.ndarray = torch.stack(twists).float().numpy()
        return flown
