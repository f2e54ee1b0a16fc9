"""Collisions, the task and its reward for rows of a session: tensors in, tensors out."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from cc2env.actions import to_poses
from cc2env.rewards import RewardFunction, Transition
from cc2env.tasks import ResetContext, Task, TaskState, make_task
from model.world.protocol import KnowsFreeSpace, WorldModel, WorldState

COLLISIONS = ("none", "stop")
_TASK_STREAM = 0x7A5C  # keeps a task's random numbers apart from others of the same seed


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The task, the reward and the collisions of an environment; the same for all its episodes.

    Attributes:
        task: The task of all episodes.
        reward: Replaces the task's reward.
        collision: "stop": the camera stops at obstacles; "none": it flies through them.
    """

    task: Task = field(default_factory=Task)
    reward: RewardFunction | None = None
    collision: str = "none"


def make_task_config(
    task: str | type[Task] | Task | None = None,
    reward: RewardFunction | None = None,
    collision: str = "none",
    **task_arguments: Any,
) -> TaskConfig:
    """Returns the configuration for an environment's arguments; see `make_task`.

    Raises:
        TypeError: An argument of the task is unknown.
        ValueError: An argument is out of range.
    """
    if collision not in COLLISIONS:
        raise ValueError(f"collision: expected one of {list(COLLISIONS)}, got {collision!r}; choose one")
    if reward is not None and not callable(reward):
        raise ValueError(f"reward: expected a function of a Transition, got {type(reward).__name__}; pass a callable")
    return TaskConfig(task=make_task(task, **task_arguments), reward=reward, collision=collision)


class TaskRunner:
    """Stops cameras at obstacles and runs a task, row by row; it holds no state of an episode itself.

    The episode data is a TensorDict of one row for each episode, on the CPU: `achieved` [b, p, 4, 4], `blocked` [b],
    `reward` [b] float64, `terminated` [b], `first_frame` [b, h, w, 3], `fingerprint` [b] int64 of the task, and `task`,
    the task's state if it has one.

    Args:
        world: The world to fly through.
        poses_per_clip: Latent poses of a clip.
        config: The task, the reward and the collisions.

    Raises:
        ValueError: `collision` is "stop", but the world does not know its free space.
    """

    def __init__(self, world: WorldModel, poses_per_clip: int, config: TaskConfig) -> None:
        if config.collision == "stop" and not isinstance(world, KnowsFreeSpace):
            raise ValueError(
                f'collision: expected "none", {type(world).__name__} does not know its free space, got "stop"; '
                'choose world="synthetic", which does, or train a depth head (python -m model.cli.train_depth); '
                "in a world of your own, see cc2env.protocol.KnowsFreeSpace"
            )
        # an estimate of the free space is used only to stop cameras
        self._guide: KnowsFreeSpace | None = None
        if isinstance(world, KnowsFreeSpace) and (world.free_space_is_exact or config.collision == "stop"):
            self._guide = world
        self.world, self.poses_per_clip = world, poses_per_clip
        self.task, self.reward, self.collision = config.task, config.reward, config.collision

    def apply_collisions(
        self, state: WorldState, twists: Float[Tensor, "n p 6"], commanded: Float[Tensor, "n p 4 4"]
    ) -> tuple[Float[Tensor, "n p 4 4"], Bool[Tensor, " n"]]:
        """Returns the poses that the cameras reach, and whether the commanded path led into an obstacle.

        Nothing is blocked where the world does not know its free space, or only estimates it and cameras do not stop.
        """
        if self._guide is None:
            return commanded, torch.zeros(len(twists), dtype=torch.bool)
        shares = self._guide.free_fraction(state, twists)
        blocked = (shares < 1).any(dim=1).cpu()
        if self.collision == "none" or not blocked.any():
            return commanded, blocked
        return to_poses(state.c2w, _cut(twists, shares)), blocked

    def open(self, state: WorldState, first_frames: UInt8[Tensor, "n h w 3"]) -> TensorDict:
        """Returns the episode data after a reset."""
        rows = range(len(first_frames))
        states = [self.task.open(self._reset_context(state[[row]], first_frames[row])) for row in rows]
        return self._episode_data(state.c2w, first_frames, states)

    def _episode_data(
        self, c2w: Float[Tensor, "n 4 4"], first_frames: UInt8[Tensor, "n h w 3"], states: list[TaskState]
    ) -> TensorDict:
        count = len(first_frames)
        episode_data = {
            "achieved": c2w[:, None].repeat(1, self.poses_per_clip, 1, 1).cpu(),
            "blocked": torch.zeros(count, dtype=torch.bool),
            "reward": torch.zeros(count, dtype=torch.float64),
            "terminated": torch.zeros(count, dtype=torch.bool),
            "first_frame": first_frames.cpu(),
            "fingerprint": torch.full((count,), self.task.fingerprint),
        }
        return _with_task_states(TensorDict(episode_data, batch_size=[count]), states)

    def blank(self) -> TensorDict:
        """Returns the episode data of a reset in an empty world; all episode data of this task has its layout."""
        spec, poses, start = self.world.spec, self.poses_per_clip, torch.eye(4, dtype=torch.float32)[None]
        first_frame = np.zeros((spec.height, spec.width, 3), np.uint8)
        context = ResetContext(
            first_frame=first_frame,
            c2w=np.eye(4, dtype=np.float32),
            intrinsics=np.array(spec.intrinsics, np.float32),
            poses_per_clip=poses,
            seconds_per_pose=spec.frames_per_pose / spec.fps,
            rng=np.random.default_rng(0),
            plan=lambda twists: to_poses(start, torch.from_numpy(twists)[None])[0].numpy(),
            look=lambda _: first_frame.copy(),
        )
        return self._episode_data(start, torch.from_numpy(first_frame)[None], [self.task.open(context)])

    def step(
        self,
        episode_data: TensorDict,
        state: WorldState,
        commanded: Float[Tensor, "n p 4 4"],
        achieved: Float[Tensor, "n p 4 4"],
        blocked: Bool[Tensor, " n"],
        frames: UInt8[Tensor, "n f h w 3"],
        clip_index: Int[Tensor, " n"],
    ) -> TensorDict:
        """Returns the episode data after a clip; `state` is from before the clip."""
        after = episode_data.copy()
        after["achieved"], after["blocked"] = achieved.cpu(), blocked
        if type(self.task) is Task and self.reward is None:
            return after  # nothing to reward: frames stay on their device
        results = []
        for row in range(len(frames)):
            transition = Transition(
                start_c2w=_read_only(state.c2w[row]),
                c2w=_read_only(achieved[row]),
                commanded_c2w=_read_only(commanded[row]),
                blocked=bool(blocked[row]),
                frames=_read_only(frames[row]),
                first_frame=_read_only(episode_data["first_frame"][row]),
                intrinsics=_read_only(state.intrinsics[row]),
                clip_index=int(clip_index[row]),
            )
            after_step, reward, terminated = self.task.judge(task_state(episode_data, row), transition)
            reward = reward if self.reward is None else self.reward(transition)
            results.append((after_step, _checked_reward(reward), bool(terminated)))
        after["reward"] = torch.tensor([reward for _, reward, _ in results], dtype=torch.float64)
        after["terminated"] = torch.tensor([terminated for _, _, terminated in results])
        return _with_task_states(after, [after_step for after_step, _, _ in results])

    def _reset_context(self, state: WorldState, first_frame: UInt8[Tensor, "h w 3"]) -> ResetContext:
        def plan(twists: np.ndarray) -> np.ndarray:
            moves = torch.from_numpy(twists).to(state.c2w)[None]
            if self._guide is not None:
                moves = _cut(moves, self._guide.free_fraction(state, moves))
            poses: np.ndarray = to_poses(state.c2w, moves)[0].cpu().numpy()
            return poses

        def look(poses: np.ndarray) -> np.ndarray:
            there = state
            for segment in torch.from_numpy(poses).to(state.c2w)[None].split(self.world.spec.poses_per_clip, dim=1):
                there, frames = self.world.extend(there, segment)
            picture: np.ndarray = frames[0, -1].cpu().numpy().copy()
            return picture

        return ResetContext(
            first_frame=_read_only(first_frame),
            c2w=_read_only(state.c2w[0]),
            intrinsics=_read_only(state.intrinsics[0]),
            poses_per_clip=self.poses_per_clip,
            seconds_per_pose=self.world.spec.frames_per_pose / self.world.spec.fps,
            rng=np.random.default_rng([int(state.seed[0]), _TASK_STREAM]),
            plan=plan,
            look=look,
        )


def task_state(episode_data: TensorDict, row: int) -> TaskState:
    """Returns the state of one row's task; its arrays are read-only."""
    if "task" not in episode_data:
        return {}  # a task without a state
    return {name: _read_only(value[row]) for name, value in episode_data["task"].items()}


def _read_only(tensor: Tensor) -> np.ndarray:
    """A view that user code cannot write into, since that would change the episode."""
    view: np.ndarray = tensor.cpu().numpy().view()
    view.flags.writeable = False
    return view


def _checked_reward(reward: Any) -> float:
    try:
        number = float(reward)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"reward: expected a finite number, got {reward}; correct the task or function that gave it")
    return number


def _cut(twists: Float[Tensor, "n p 6"], shares: Float[Tensor, "n p"]) -> Float[Tensor, "n p 6"]:
    return torch.cat([twists[..., :3] * shares[..., None].to(twists), twists[..., 3:]], dim=-1)


def _with_task_states(episode_data: TensorDict, states: list[TaskState]) -> TensorDict:
    stacked = {name: torch.from_numpy(np.stack([each[name] for each in states])) for name in states[0]}
    if stacked:  # an empty entry is lost in a file
        episode_data["task"] = TensorDict(stacked, batch_size=episode_data.batch_size)
    return episode_data
