"""A planner: the cross-entropy method over forks of the episode.

Source: Rubinstein (1999); for planning in a learned model, Chua et al. (2018). Nothing is learned here, and only the
environment is used: its forks fly the candidates side by side, and the next candidates are drawn near the best.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

if TYPE_CHECKING:
    from cc2env.env import CameraCtrlWorldEnv
    from cc2env.rewards import RewardFunction

_ELITE_SHARE = 0.2
_FIRST_SPREAD = 0.5  # of the bounds
_LEAST_SPREAD = 0.02  # so that the last draw still varies


@dataclass(kw_only=True)
class Budget:
    """What a decision may cost: `candidates * iterations * horizon` clips.

    Attributes:
        candidates: Plans flown side by side.
        iterations: Draws of candidates, each closer to the best.
        horizon: Clips to look ahead.

    Raises:
        ValueError: A number is too small.
    """

    candidates: int = 32
    iterations: int = 3
    horizon: int = 2

    def __post_init__(self) -> None:
        for name, least in (("candidates", 2), ("iterations", 1), ("horizon", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {getattr(self, name)}")


class Imagination(Protocol):
    """Predicts the rewards of plans."""

    def returns(self, plans: np.ndarray) -> np.ndarray:
        """Returns the sum of rewards [k] of the plans [k, horizon, p, 6] from where the environment is now."""
        ...


class ForkedFutures:
    """Flies the plans in a fork of the episode, one batched call for each clip: exact for every task and reward.

    Args:
        env: The environment, wrapped or not; it stays where it is.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env: "CameraCtrlWorldEnv" = env.unwrapped  # type: ignore[assignment]
        self._futures: Any = None

    def returns(self, plans: np.ndarray) -> np.ndarray:
        moment = self._env.snapshot()
        if self._futures is None or self._futures.num_envs != len(plans):
            self._futures = self._env.fork(len(plans))
        self._futures.restore(moment.fork(len(plans)))
        total, alive = np.zeros(len(plans)), np.ones(len(plans), bool)
        for actions in plans.swapaxes(0, 1):
            _, rewards, terminated, _, _ = self._futures.step(actions)
            total += np.where(alive, rewards, 0.0)
            alive &= ~terminated
            if terminated.any():  # ended rows earn no more: restored so that they can step
                rows = np.flatnonzero(terminated).tolist()
                self._futures.restore(moment.fork(len(rows)), rows=rows)
        return total


class PoseFutures:
    """Computes the task's rewards from the plans' poses and generates nothing: thousands of times cheaper.

    Exact where rewards depend on poses alone and nothing stops the camera: `Explore`, `GoalView`, `FollowPath`,
    `HoldStill`. Pictures are assumed to stay as they are, so that `LoopClosure`'s similarity is a guess.

    Args:
        env: The environment, wrapped or not.
        reward: Replaces the environment's own reward (its reward function, or else its task's reward).
    """

    def __init__(self, env: gym.Env[Any, Any], reward: "RewardFunction | None" = None) -> None:
        self._env: "CameraCtrlWorldEnv" = env.unwrapped  # type: ignore[assignment]
        self._reward = self._env.reward if reward is None else reward

    def returns(self, plans: np.ndarray) -> np.ndarray:
        import torch

        from cc2env.actions import to_poses
        from cc2env.task_runner import task_state

        session = self._env.snapshot().session
        start, clips = session.episode_data["achieved"][:, -1], len(plans[0])
        twists = torch.from_numpy(plans.reshape(len(plans), -1, 6))
        poses = to_poses(start.expand(len(plans), 4, 4), twists).numpy().reshape(len(plans), clips, -1, 4, 4)
        moment = {
            "frames": session.frames[0].cpu().numpy(),
            "first_frame": session.episode_data["first_frame"][0].numpy(),
            "intrinsics": session.state.intrinsics[0].cpu().numpy(),
        }
        memory, clip_index = task_state(session.episode_data, 0), int(session.clip_index[0])
        return np.array([self._earned(memory, clip_index, start[0].numpy(), path, moment) for path in poses])

    def _earned(
        self, memory: Any, clip_index: int, start: np.ndarray, path: np.ndarray, moment: dict[str, np.ndarray]
    ) -> float:
        from cc2env.rewards import Transition

        total = 0.0
        for ahead, c2w in enumerate(path, 1):
            transition = Transition(
                start_c2w=start, c2w=c2w, commanded_c2w=c2w, blocked=False, clip_index=clip_index + ahead, **moment
            )
            memory, reward, terminated = self._env.task.judge(memory, transition)
            total += reward if self._reward is None else float(self._reward(transition))
            if terminated:
                break
            start = c2w[-1]
        return total


class PlannerPolicy:
    """Flies the first clip of the best plan found, then plans again.

    A plan is a twist at each clip's beginning and end, interpolated linearly. Every draw also holds its own mean (at
    first: stand still) and the best plan so far, so that the result is never worse than a plan already seen. A
    decision is a function of (seed, clip index, moment): nothing is kept between decisions.

    Args:
        env: The environment that is flown.
        budget: What a decision may cost.
        seed: Seed of the candidates.
        imagination: How plans are judged; by default by forks of the environment.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        budget: Budget | None = None,
        seed: int = 0,
        imagination: Imagination | None = None,
    ) -> None:
        assert isinstance(env.action_space, gym.spaces.Box)
        self.high: np.ndarray = env.action_space.high
        self.budget, self.seed = budget or Budget(), seed
        self.imagination: Imagination = imagination or ForkedFutures(env)

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the first clip of the best plan."""
        rng = np.random.default_rng([self.seed, int(info["clip_index"])])
        bounds = self.high[0]
        mean = np.zeros((self.budget.horizon + 1, 6))
        spread = np.broadcast_to(_FIRST_SPREAD * bounds, mean.shape)
        best, best_return = mean, -np.inf
        num_elites = max(2, round(_ELITE_SHARE * self.budget.candidates))
        for _ in range(self.budget.iterations):
            drawn = mean + spread * rng.standard_normal((self.budget.candidates, *mean.shape))
            drawn[0], drawn[1] = mean, best
            drawn = drawn.clip(-bounds, bounds)
            returns = self.imagination.returns(self._plans(drawn))
            order = np.argsort(-returns, kind="stable")
            if returns[order[0]] > best_return:
                best, best_return = drawn[order[0]], float(returns[order[0]])
            elites = drawn[order[:num_elites]]
            mean, spread = elites.mean(axis=0), np.maximum(elites.std(axis=0), _LEAST_SPREAD * bounds)
        action: np.ndarray = self._plans(best[None])[0, 0]
        return action

    def _plans(self, knots: np.ndarray) -> np.ndarray:
        """Actions [k, horizon, p, 6] from the twists [k, horizon + 1, 6] where clips meet."""
        share = (np.arange(len(self.high)) / len(self.high))[:, None]
        plans: np.ndarray = (1 - share) * knots[:, :-1, None] + share * knots[:, 1:, None]
        return plans.astype(np.float32).clip(-self.high, self.high)
