"""Wrappers for vector environments: each treats every row as the single wrapper of the same name does.

    envs = gym.make_vec("CameraCtrlWorld-v0", num_envs=4)
    envs = cc2env.wrappers.vector.LastFrame(envs)

`gym.make_vec(..., wrappers=[...])` takes the single wrappers, and only in its modes "sync" and "async".
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import TransformObservation
from gymnasium.wrappers.vector import VectorizeTransformAction

from cc2env import wrappers

__all__ = ["ChannelFirst", "DiscreteActions", "FrameSkip", "LastFrame", "ResizeClip", "SingleTwist"]

_Envs = VectorEnv[Any, Any, Any]
_Observation = tuple[np.ndarray, dict[str, Any]]


class _VectorizeTransformObservation(VectorWrapper):
    """Gymnasium's class of this name refuses environments that reset in the same step, as these do by default."""

    def __init__(self, env: _Envs, wrapper: type[TransformObservation[Any, Any, Any]], **arguments: Any) -> None:
        super().__init__(env)
        single = wrapper(_SingleEnv(env.single_observation_space), **arguments)
        self._func = single.func
        self.single_observation_space = single.observation_space
        self.observation_space = batch_space(single.observation_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> _Observation:
        """Resets, and transforms the observations."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._transform(observations), infos

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps, and transforms the observations, also the final ones of rows that ended."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            for row in np.flatnonzero(infos["_final_obs"]):
                infos["final_obs"][row] = self._func(infos["final_obs"][row])
        return self._transform(observations), rewards, terminations, truncations, infos

    def _transform(self, observations: np.ndarray) -> np.ndarray:
        return np.stack([self._func(observation) for observation in observations])


class _SingleEnv(gym.Env[Any, Any]):
    """The part of an environment that a single wrapper reads when it is made."""

    def __init__(self, observation_space: Space[Any]) -> None:
        self.observation_space = observation_space


class LastFrame(_VectorizeTransformObservation):
    """Observations are the last frames of the clips; see `cc2env.wrappers.LastFrame`."""

    def __init__(self, env: _Envs) -> None:
        super().__init__(env, wrappers.LastFrame)


class FrameSkip(_VectorizeTransformObservation):
    """Observations are every `every`-th frame of the clips; see `cc2env.wrappers.FrameSkip`."""

    def __init__(self, env: _Envs, every: int = 4) -> None:
        super().__init__(env, wrappers.FrameSkip, every=every)


class ResizeClip(_VectorizeTransformObservation):
    """Observations are clips of another size; see `cc2env.wrappers.ResizeClip`."""

    def __init__(self, env: _Envs, height: int, width: int) -> None:
        super().__init__(env, wrappers.ResizeClip, height=height, width=width)


class ChannelFirst(_VectorizeTransformObservation):
    """Observations have their channels in front of height and width; see `cc2env.wrappers.ChannelFirst`."""

    def __init__(self, env: _Envs) -> None:
        super().__init__(env, wrappers.ChannelFirst)


class SingleTwist(VectorizeTransformAction):
    """Actions are one twist for each row; see `cc2env.wrappers.SingleTwist`."""

    def __init__(self, env: _Envs) -> None:
        super().__init__(env, wrappers.SingleTwist)


class DiscreteActions(VectorizeTransformAction):
    """Actions are one key for each row; see `cc2env.wrappers.DiscreteActions`."""

    def __init__(self, env: _Envs, key_map: str = "v1") -> None:
        super().__init__(env, wrappers.DiscreteActions, key_map=key_map)
