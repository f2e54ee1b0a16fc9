"""Wrappers of actions: a few keys, or one twist for a whole clip, instead of a twist for each latent pose."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import TransformAction

from cc2env.actions import check_action
from cc2env.spaces import twist_bounds

# Each key's twist, as shares of the bounds: right, down, forward, tilt up, pan right, roll clockwise.
KEY_MAPS: dict[str, dict[str, tuple[float, float, float, float, float, float]]] = {
    "v1": {
        "stay": (0, 0, 0, 0, 0, 0),
        "forward": (0, 0, 0.5, 0, 0, 0),
        "back": (0, 0, -0.5, 0, 0, 0),
        "left": (-0.5, 0, 0, 0, 0, 0),
        "right": (0.5, 0, 0, 0, 0, 0),
        "up": (0, -0.5, 0, 0, 0, 0),
        "down": (0, 0.5, 0, 0, 0, 0),
        "pan_left": (0, 0, 0, 0, -0.5, 0),
        "pan_right": (0, 0, 0, 0, 0.5, 0),
        "tilt_up": (0, 0, 0, 0.5, 0, 0),
        "tilt_down": (0, 0, 0, -0.5, 0, 0),
        "forward_left": (0, 0, 0.5, 0, -0.5, 0),
        "forward_right": (0, 0, 0.5, 0, 0.5, 0),
    }
}
# The keyboard's letter of each key, for `gymnasium.utils.play`: the left hand moves, the right hand turns.
LETTERS = {
    "forward": "w",
    "back": "s",
    "left": "a",
    "right": "d",
    "up": "r",
    "down": "f",
    "pan_left": "j",
    "pan_right": "l",
    "tilt_up": "i",
    "tilt_down": "k",
    "forward_left": "q",
    "forward_right": "e",
}


class DiscreteActions(TransformAction[np.ndarray, Any, np.ndarray]):
    """Actions are keys: `Discrete(n)`, each held down for a whole clip.

    The map is versioned: the meaning of a number in "v1" never changes, so that trained agents stay valid.
    "v1" moves at half the bounds: 0.3 m or 0.1 rad for each latent pose, that is 1.2 m or 0.4 rad for a clip of 4.

    | Key | Name        | Key | Name        | Key | Name                         |
    |-----|-------------|-----|-------------|-----|------------------------------|
    | 0   | `stay`      | 5   | `up`        | 10  | `tilt_down`                  |
    | 1   | `forward`   | 6   | `down`      | 11  | `forward_left`, with a pan   |
    | 2   | `back`      | 7   | `pan_left`  | 12  | `forward_right`, with a pan  |
    | 3   | `left`      | 8   | `pan_right` |     |                              |
    | 4   | `right`     | 9   | `tilt_up`   |     |                              |

    With `gymnasium.utils.play.play` the keyboard's w, s, a, d, r, f move, j, l, i, k turn, q and e fly a curve.

    Args:
        env: A CameraCtrlWorld with unchanged actions.
        key_map: A version in `KEY_MAPS`.

    Raises:
        ValueError: The version is unknown, or the actions are no twists.
    """

    def __init__(self, env: gym.Env[Any, np.ndarray], key_map: str = "v1") -> None:
        gym.utils.RecordConstructorArgs.__init__(self, key_map=key_map)
        if key_map not in KEY_MAPS:
            raise ValueError(f"key_map: expected one of {list(KEY_MAPS)}, got {key_map!r}; choose one")
        poses = check_twists(env)
        self.names = tuple(KEY_MAPS[key_map])
        keys = np.array(list(KEY_MAPS[key_map].values()), np.float32) * twist_bounds()
        self._actions = np.repeat(keys[:, None], poses, axis=1)
        super().__init__(env, self._twists_of, Discrete(len(keys)))

    def get_keys_to_action(self) -> dict[str, int]:
        """Returns the letter of each key; `gymnasium.utils.play.play(DiscreteActions(env))` calls it."""
        return {LETTERS[name]: key for key, name in enumerate(self.names) if name in LETTERS}

    def _twists_of(self, action: Any) -> np.ndarray:
        if not self.action_space.contains(action):
            raise ValueError(f"action: expected a key in 0..{len(self.names) - 1}, got {action!r}; see KEY_MAPS")
        twists: np.ndarray = self._actions[int(action)].copy()
        return twists


class SingleTwist(TransformAction[np.ndarray, Any, np.ndarray]):
    """Actions are one twist, `Box(6,)` with the bounds of a latent pose, flown for every pose of the clip.

    The camera moves along a screw: metres and radians add up over the clip.

    Args:
        env: A CameraCtrlWorld with unchanged actions.

    Raises:
        ValueError: The actions are no twists.
    """

    def __init__(self, env: gym.Env[Any, np.ndarray]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        self._poses = check_twists(env)
        super().__init__(env, self._repeated, Box(-twist_bounds(), twist_bounds(), dtype=np.float32))

    def _repeated(self, action: Any) -> np.ndarray:
        twists: np.ndarray = np.tile(check_action(action, (6,)), (self._poses, 1))
        return twists


def check_twists(env: gym.Env[Any, Any]) -> int:
    """Returns the number of poses of a clip.

    Raises:
        ValueError: The environment's actions are not a twist for each pose.
    """
    check_single(env)
    space = env.action_space
    if not isinstance(space, Box) or len(space.shape) != 2 or space.shape[1] != 6:
        raise ValueError(f"env: expected actions Box(poses_per_clip, 6), got {space}; put this wrapper inside")
    return int(space.shape[0])


def check_single(env: object) -> None:
    """Raises a TypeError for a vector environment: those have their own wrappers."""
    if isinstance(env, VectorEnv):
        raise TypeError(
            f"env: expected a single environment, got the vector environment {type(env).__name__}; "
            "take the wrapper of the same name from cc2env.wrappers.vector"
        )
