"""Where the camera really gets, and what the task says to it, for rows of a session: tensors in, tensors out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from cc2env.actions import to_poses
from cc2env.rewards import RewardFunction, Transition
from cc2env.tasks import Memory, Opening, Task, make_task
from model.world.protocol import KnowsFreeSpace, WorldModel, WorldState

COLLISIONS = ("none", "stop")
_TASK_STREAM = 0x7A5C  # tells a task's random numbers from others of the same seed


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What an environment's arguments say about obstacles and rewards; the same for all its episodes.

    Attributes:
        task: What the episodes are for.
        reward: Takes the place of the task's reward.
        collision: "stop": the camera stops at obstacles; "none": it flies through them.
    """

    task: Task = field(default_factory=Task)
    reward: RewardFunction | None = None
    collision: str = "none"


def make_rules(
    task: str | type[Task] | Task | None = None,
    reward: RewardFunction | None = None,
    collision: str = "none",
    task_arguments: Mapping[str, Any] | None = None,
) -> Rules:
    """Returns the rules that an environment's arguments ask for; see `make_task`.

    Raises:
        TypeError: An argument of the task is unknown.
        ValueError: One of them is out of range.
    """
    if collision not in COLLISIONS:
        raise ValueError(f"collision: expected one of {list(COLLISIONS)}, got {collision!r}; choose one")
    if reward is not None and not callable(reward):
        raise ValueError(f"reward: expected a function of a Transition, got {type(reward).__name__}; pass a callable")
    return Rules(task=make_task(task, **(task_arguments or {})), reward=reward, collision=collision)


class Judge:
    """Stops cameras at obstacles and plays a task, row by row; keeps nothing of an episode itself.

    Its books are a TensorDict of one row for each episode, on the CPU: `achieved` [b, p, 4, 4], `blocked` [b],
    `reward` [b] float64, `terminated` [b], `first_frame` [b, h, w, 3], `fingerprint` [b] int64 of the task and, if it
    has one, the task's memory `task`.

    Args:
        world: The world to fly through.
        poses_per_clip: Latent poses of a clip.
        rules: Of all episodes.

    Raises:
        ValueError: Cameras are to stop in a world that does not know its free space.
    """

    def __init__(self, world: WorldModel, poses_per_clip: int, rules: Rules) -> None:
        if rules.collision == "stop" and not isinstance(world, KnowsFreeSpace):
            raise ValueError(
                f'collision: expected "none", {type(world).__name__} does not know its free space, got "stop"; '
                'choose world="synthetic", which does, or give this one a depth head with model.cli.train_depth'
            )
        # an estimate is asked only of those who want to stop by it
        self._guide: KnowsFreeSpace | None = None
        if isinstance(world, KnowsFreeSpace) and (world.free_space_is_exact or rules.collision == "stop"):
            self._guide = world
        self.world, self.poses_per_clip = world, poses_per_clip
        self.task, self.reward, self.collision = rules.task, rules.reward, rules.collision

    def route(
        self, state: WorldState, twists: Float[Tensor, "n p 6"], commanded: Float[Tensor, "n p 4 4"]
    ) -> tuple[Float[Tensor, "n p 4 4"], Bool[Tensor, " n"]]:
        """Returns the poses that the cameras reach, and whether the commanded path led into an obstacle.

        A world that does not know its free space blocks nothing, nor does one that estimates it unless cameras stop.
        """
        if self._guide is None:
            return commanded, torch.zeros(len(twists), dtype=torch.bool)
        shares = self._guide.free_fraction(state, twists)
        blocked = (shares < 1).any(dim=1).cpu()
        if self.collision == "none" or not blocked.any():
            return commanded, blocked
        return to_poses(state.c2w, _cut(twists, shares)), blocked

    def open(self, state: WorldState, first_frames: UInt8[Tensor, "n h w 3"]) -> TensorDict:
        """Returns the books of episodes that begin."""
        rows = range(len(first_frames))
        memories = [self.task.open(self._opening(state[[row]], first_frames[row])) for row in rows]
        return self._books(state.c2w, first_frames, memories)

    def _books(
        self, c2w: Float[Tensor, "n 4 4"], first_frames: UInt8[Tensor, "n h w 3"], memories: list[Memory]
    ) -> TensorDict:
        count = len(first_frames)
        books = {
            "achieved": c2w[:, None].repeat(1, self.poses_per_clip, 1, 1).cpu(),
            "blocked": torch.zeros(count, dtype=torch.bool),
            "reward": torch.zeros(count, dtype=torch.float64),
            "terminated": torch.zeros(count, dtype=torch.bool),
            "first_frame": first_frames.cpu(),
            "fingerprint": torch.full((count,), self.task.fingerprint),
        }
        return _with_memories(TensorDict(books, batch_size=[count]), memories)

    def blank(self) -> TensorDict:
        """Returns the books of one episode that begins in an empty world: what any books of this task look like."""
        spec, poses, start = self.world.spec, self.poses_per_clip, torch.eye(4, dtype=torch.float32)[None]
        first_frame = np.zeros((spec.height, spec.width, 3), np.uint8)
        opening = Opening(
            first_frame=first_frame,
            c2w=np.eye(4, dtype=np.float32),
            intrinsics=np.array(spec.intrinsics, np.float32),
            poses_per_clip=poses,
            seconds_per_pose=spec.frames_per_pose / spec.fps,
            rng=np.random.default_rng(0),
            plan=lambda twists: to_poses(start, torch.from_numpy(twists)[None])[0].numpy(),
            look=lambda _: first_frame.copy(),
        )
        return self._books(start, torch.from_numpy(first_frame)[None], [self.task.open(opening)])

    def judge(
        self,
        books: TensorDict,
        state: WorldState,
        commanded: Float[Tensor, "n p 4 4"],
        achieved: Float[Tensor, "n p 4 4"],
        blocked: Bool[Tensor, " n"],
        frames: UInt8[Tensor, "n f h w 3"],
        clip_index: Int[Tensor, " n"],
    ) -> TensorDict:
        """Returns the books after a clip; `state` is the one before it."""
        after = books.copy()
        after["achieved"], after["blocked"] = achieved.cpu(), blocked
        if type(self.task) is Task and self.reward is None:
            return after  # nothing to judge: frames stay on their device
        verdicts = []
        for row in range(len(frames)):
            transition = Transition(
                start_c2w=_read_only(state.c2w[row]),
                c2w=_read_only(achieved[row]),
                commanded_c2w=_read_only(commanded[row]),
                blocked=bool(blocked[row]),
                frames=_read_only(frames[row]),
                first_frame=_read_only(books["first_frame"][row]),
                intrinsics=_read_only(state.intrinsics[row]),
                clip_index=int(clip_index[row]),
            )
            memory, reward, terminated = self.task.judge(task_memory(books, row), transition)
            reward = reward if self.reward is None else self.reward(transition)
            verdicts.append((memory, _checked_reward(reward), bool(terminated)))
        after["reward"] = torch.tensor([reward for _, reward, _ in verdicts], dtype=torch.float64)
        after["terminated"] = torch.tensor([terminated for _, _, terminated in verdicts])
        return _with_memories(after, [memory for memory, _, _ in verdicts])

    def _opening(self, state: WorldState, first_frame: UInt8[Tensor, "h w 3"]) -> Opening:
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

        return Opening(
            first_frame=_read_only(first_frame),
            c2w=_read_only(state.c2w[0]),
            intrinsics=_read_only(state.intrinsics[0]),
            poses_per_clip=self.poses_per_clip,
            seconds_per_pose=self.world.spec.frames_per_pose / self.world.spec.fps,
            rng=np.random.default_rng([int(state.seed[0]), _TASK_STREAM]),
            plan=plan,
            look=look,
        )


def task_memory(books: TensorDict, row: int) -> Memory:
    """Returns the memory of one row's task, as the task knows it; read-only."""
    if "task" not in books:
        return {}  # a task that remembers nothing
    return {name: _read_only(value[row]) for name, value in books["task"].items()}


def _read_only(tensor: Tensor) -> np.ndarray:
    """A view for the code of users: writing into it, which would change the episode, raises."""
    view: np.ndarray = tensor.cpu().numpy().view()
    view.flags.writeable = False
    return view


def _checked_reward(reward: Any) -> float:
    try:
        number = float(reward)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"reward: expected a finite number, got {reward}; mend the task or function that gave it")
    return number


def _cut(twists: Float[Tensor, "n p 6"], shares: Float[Tensor, "n p"]) -> Float[Tensor, "n p 6"]:
    return torch.cat([twists[..., :3] * shares[..., None].to(twists), twists[..., 3:]], dim=-1)


def _with_memories(books: TensorDict, memories: list[Memory]) -> TensorDict:
    stacked = {name: torch.from_numpy(np.stack([memory[name] for memory in memories])) for name in memories[0]}
    if stacked:  # an empty entry would not survive a file
        books["task"] = TensorDict(stacked, batch_size=books.batch_size)
    return books
