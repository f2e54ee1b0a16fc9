"""`Policy`, the protocol of agents, and `rollout`, which flies an episode and keeps what the environment returned."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from tqdm import tqdm


class Policy(Protocol):
    """Chooses actions. A policy does not count clips: `info["clip_index"]` says where the episode is, so that the
    policy stays right after the environment is restored to a snapshot."""

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the next action [poses_per_clip, 6], float32, for the last observation and info."""
        ...


@dataclass(frozen=True)
class Episode:
    """The record of an episode.

    Attributes:
        first_frame: uint8 [h, w, 3], from `reset`.
        clips: One uint8 [f, h, w, 3] for each step.
        actions: Float32 [p, 6] of each step.
        c2w: Float32 [1 + steps * p, 4, 4]: the start pose, then every commanded one.
        intrinsics: Float32 [4], normalised.
        prompt: Prompt of the first frame, "" without one.
        prompts: Prompt of each step; the policy or other code may change it in flight.
        rewards: One for each step.
        reset_seconds: Wall-clock time of `reset`.
        step_seconds: Wall-clock time of each `step`.
        reset_function_evaluations: Samples passed through the network in `reset`.
        function_evaluations: The same for each `step`.
        last_info: `info` of the last step.
    """

    first_frame: np.ndarray
    clips: list[np.ndarray]
    actions: list[np.ndarray]
    c2w: np.ndarray
    intrinsics: np.ndarray
    prompt: str
    prompts: list[str]
    rewards: list[float]
    reset_seconds: float
    step_seconds: list[float]
    reset_function_evaluations: int
    function_evaluations: list[int]
    last_info: dict[str, Any]

    @property
    def frames(self) -> np.ndarray:
        """All frames in order, the first one once: uint8 [1 + steps * f, h, w, 3]."""
        return np.concatenate([self.first_frame[None], *self.clips])

    @property
    def frames_per_second(self) -> float:
        """Frames that `step` generated for each second of wall-clock time."""
        return sum(map(len, self.clips)) / sum(self.step_seconds)


def rollout(
    env: gym.Env[np.ndarray, Any],
    policy: Policy,
    num_clips: int,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    show_progress: bool = True,
) -> Episode:
    """Runs a policy until num_clips clips are flown or the episode ends.

    Raises:
        ValueError: num_clips is less than 1.
    """
    if num_clips < 1:
        raise ValueError(f"num_clips: expected at least 1, got {num_clips}")
    started = time.perf_counter()
    observation, info = env.reset(seed=seed, options=options)
    reset_seconds = time.perf_counter() - started
    first_frame, intrinsics, opening_prompt = observation[0].copy(), info["intrinsics"].copy(), info["prompt"]
    reset_evaluations = int(info["function_evaluations"])
    clips, actions, poses, rewards, step_seconds, evaluations, prompts = [], [], [info["c2w"][:1]], [], [], [], []
    with tqdm(total=num_clips, desc="flying", unit="clip", disable=not show_progress) as bar:
        for _ in range(num_clips):
            action = policy.act(observation, info)
            started = time.perf_counter()
            observation, reward, terminated, truncated, info = env.step(action)
            step_seconds.append(time.perf_counter() - started)
            clips.append(observation)
            actions.append(action)
            poses.append(info["c2w"])
            prompts.append(info["prompt"])
            rewards.append(float(reward))
            evaluations.append(int(info["function_evaluations"]))
            bar.set_postfix_str(f"{len(observation) / step_seconds[-1]:.0f} frames/s", refresh=False)
            bar.update()
            if terminated or truncated:
                break
    return Episode(
        first_frame=first_frame,
        clips=clips,
        actions=actions,
        c2w=np.concatenate(poses),
        intrinsics=intrinsics,
        prompt=opening_prompt,
        prompts=prompts,
        rewards=rewards,
        reset_seconds=reset_seconds,
        step_seconds=step_seconds,
        reset_function_evaluations=reset_evaluations,
        function_evaluations=evaluations,
        last_info=info,
    )
