"""The logic of a step and a reset, for a batch of episodes; every environment class is a view of it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from cc2env import shared_world
from cc2env.actions import to_poses
from cc2env.options import EnvOptions
from cc2env.session_snapshot import SessionSnapshot
from cc2env.shared_world import SharedWorld
from cc2env.task_runner import TaskConfig, TaskRunner, task_state
from model.geometry.camera import intrinsics_from_fov
from model.world.protocol import (
    ChangesPrompts,
    CountsEvaluations,
    HasVocabulary,
    NamesItsPrompt,
    RecognisesStates,
    SeesDepth,
    WorldModel,
    WorldState,
    abilities,
)


class Session:
    """Runs `num_rows` episodes of one world side by side.

    A call that raises changes nothing: the next state takes the place of the last one only when it is whole.
    A pickled session holds its episodes, and the name of its world instead of the weights.

    Attributes:
        evaluations: Samples passed through the network [b] for each row's last clip or, after a reset, its first
            frame. Restored rows cost none.

    Args:
        world: A name, a folder, or a world that is already built.
        num_rows: The number b of episodes.
        options: Options of the world and the clips.
        task_config: The task, its reward, and what obstacles do; by default no task, and nothing stops a camera.

    Raises:
        ValueError: poses_per_clip is no multiple of the world's, or the task does not suit the world.
    """

    def __init__(
        self,
        world: str | Path | WorldModel | SharedWorld,
        num_rows: int = 1,
        options: EnvOptions | None = None,
        task_config: TaskConfig | None = None,
    ) -> None:
        options = options or EnvOptions()
        self._world_name, self._options = shared_world.shared(world), options
        world = shared_world.load(world, options)
        segment, poses_per_clip = world.spec.poses_per_clip, options.poses_per_clip
        self.poses_per_clip = segment if poses_per_clip is None else poses_per_clip
        if self.poses_per_clip < 1 or self.poses_per_clip % segment:
            raise ValueError(
                f"poses_per_clip: expected a positive multiple of {segment}, which this world generates at once, "
                f"got {poses_per_clip}; round it, or copy the folder of a learned world and set it in its world.yaml"
            )
        self.world = world
        self.num_rows = num_rows
        self._intrinsics: Tensor | None = None
        if options.horizontal_fov_deg is not None:
            self._require("horizontal_fov_deg")
            fov = math.radians(options.horizontal_fov_deg)
            self._intrinsics = intrinsics_from_fov(fov, world.spec.height, world.spec.width)
        self.task_config = task_config or TaskConfig()
        self._runner = TaskRunner(world, self.poses_per_clip, self.task_config)
        self._current: SessionSnapshot | None = None
        self.evaluations = torch.zeros(num_rows, dtype=torch.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the world."""
        return {**self.__dict__, "world": None, "_runner": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "world": shared_world.load(state["_world_name"], state["_options"])})
        self._runner = TaskRunner(self.world, self.poses_per_clip, self.task_config)

    @property
    def is_started(self) -> bool:
        """Whether every row has been reset once, so that `step` may be called."""
        return self._current is not None

    @property
    def frames_per_clip(self) -> int:
        """Frames that one step generates."""
        return self.poses_per_clip // self.world.spec.poses_per_clip * self.world.spec.frames_per_clip

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All words that prompts can use in this world, or None if it has no such list."""
        return self.world.vocabulary if isinstance(self.world, HasVocabulary) else None

    @property
    def abilities(self) -> frozenset[str]:
        """What can be done in this world; see `model.world.protocol.abilities`."""
        return abilities(self.world)

    def _require(self, ability: str) -> None:
        if ability not in self.abilities:
            uses = f", only for {', '.join(sorted(self.abilities))}" if self.abilities else ""
            part = "ChangesPrompts" if ability == "set_prompt" else "LimitsItsStart"
            raise ValueError(
                f"{ability}: expected none, {type(self.world).__name__} has no use for it{uses}; leave it out, or "
                f"choose another world; in one of your own, see cc2env.protocol.{part}"
            )

    @property
    def current(self) -> SessionSnapshot:
        """The present state of all rows: every call replaces it, and nothing may write into it."""
        assert self._current is not None, "current: reset the session first"
        return self._current

    def seconds(self) -> Float[np.ndarray, " b"]:
        """Returns the time of each row's last frame since its first, in the scene's own seconds."""
        elapsed: np.ndarray = self.current.clip_index.numpy() * (self.frames_per_clip / self.world.spec.fps)
        return elapsed

    def reset(
        self,
        seeds: Sequence[int],
        prompts: Sequence[str | None] | None = None,
        images: UInt8[np.ndarray, "n h w 3"] | None = None,
        rows: Sequence[int] | None = None,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Opens new episodes in all rows, or in these, and returns their first frames.

        All noise of an episode is a function of its seed and clip. For a prompt of None the world chooses one.
        """
        assert rows is None or self.is_started, "rows: reset all rows before single ones"
        assert len(seeds) == (self.num_rows if rows is None else len(rows)), "seeds: one for each row"
        named = self._named_prompts(seeds, prompts, has_image=images is not None)
        given = prompts is not None and any(prompt is not None for prompt in prompts)
        for ability, is_given in (("prompt", given), ("image", images is not None)):
            if is_given:
                self._require(ability)
        started, frames = self.world.start(
            list(seeds),
            named if given else None,
            None if images is None else torch.from_numpy(images),
            self._intrinsics,
        )
        opened = SessionSnapshot(
            started,
            torch.zeros(len(seeds), dtype=torch.int64),
            started.c2w[:, None].repeat(1, self.poses_per_clip, 1, 1),
            frames.repeat(1, self.frames_per_clip, 1, 1, 1),
            tuple(named),
            self._runner.open(started, frames[:, 0]),
        )
        self._replace(opened, 0 if images is not None else self._evaluations(started, opening=True), rows)
        return frames[:, 0].cpu().numpy().copy()

    def set_prompts(self, prompts: Sequence[str | None], rows: Sequence[int] | None = None) -> None:
        """Gives all rows, or these, new prompts from their next clip on; None keeps the old one.

        Raises:
            ValueError: The world cannot change prompts in flight, or `prompts` has another type or length.
        """
        self._require("set_prompt")
        assert isinstance(self.world, ChangesPrompts)
        before = self.current if rows is None else self.current[rows]
        new = tuple(old if prompt is None else prompt for old, prompt in zip(before.prompts, prompts, strict=True))
        changed = [row for row, prompt in enumerate(prompts) if prompt is not None]
        if changed:
            other = self.world.with_prompts(before.state[changed], [new[row] for row in changed])
            after = replace(before, state=before.state.with_rows(changed, other), prompts=new)
            self._current = after if rows is None else self.current.with_rows(rows, after)

    def step(
        self, twists: Float[np.ndarray, "n p 6"], rows: Sequence[int] | None = None
    ) -> UInt8[np.ndarray, "n f h w 3"]:
        """Flies all rows, or these, along their twists (checked by `actions.check_action`); returns their clips."""
        self.fly(torch.from_numpy(twists), rows)
        frames = self.current.frames if rows is None else self.current.frames[list(rows)]
        return frames.cpu().numpy().copy()

    def fly(self, twists: Float[Tensor, "n p 6"], rows: Sequence[int] | None = None) -> None:
        """Like `step`, but the clip stays on the world's device, in `current.frames`."""
        before = self.current if rows is None else self.current[rows]
        state, twists = before.state, twists.to(before.state.c2w.device)
        commanded = to_poses(state.c2w, twists)
        achieved, blocked = self._runner.apply_collisions(state, twists, commanded)
        clips, evaluations = [], torch.zeros(len(twists), dtype=torch.int64)
        for segment in achieved.split(self.world.spec.poses_per_clip, dim=1):
            evaluations = evaluations + self._evaluations(state)
            state, frames = self.world.extend(state, segment)
            clips.append(frames)
        clip, clip_index = torch.cat(clips, dim=1), before.clip_index + 1
        episode_data = self._runner.step(
            before.episode_data, before.state, commanded, achieved, blocked, clip, clip_index
        )
        after = SessionSnapshot(state, clip_index, commanded, clip, before.prompts, episode_data)
        self._replace(after, evaluations, rows)

    def task_info(self, row: int) -> dict[str, Any]:
        """Returns the task's part of a row's `info`: always the same keys."""
        return self.task_config.task.info(task_state(self.current.episode_data, row))

    def blank_task_info(self) -> dict[str, Any]:
        """Returns the `task_info` of an episode in an empty world: its keys, shapes and types fit every episode."""
        return self.task_config.task.info(task_state(self._runner.blank(), 0))

    def depth(self) -> Float[np.ndarray, "b p h w"]:
        """Returns the z-depth at the poses of every row's last clip, metres; see `SeesDepth`.

        Raises:
            ValueError: This world gives no depth.
        """
        if not isinstance(self.world, SeesDepth):
            raise ValueError(
                f"depth: expected a world that sees depth, got {type(self.world).__name__} without it; "
                "train a depth head (python -m model.cli.train_depth); in a world of your own, see "
                "cc2env.protocol.SeesDepth"
            )
        now = self.current
        achieved = now.episode_data["achieved"].to(now.state.c2w.device)
        depth = self.world.clip_depth(now.state, achieved)
        opened = now.clip_index == 0
        depth[opened] = depth[opened][:, -1:]  # a reset has one frame
        found: np.ndarray = depth.cpu().numpy()
        return found

    def snapshot(self) -> SessionSnapshot:
        """Returns a copy of everything that `step` depends on."""
        return self.current[range(self.num_rows)]

    def restore(self, snapshot: SessionSnapshot, rows: Sequence[int] | None = None) -> None:
        """Restores a snapshot, which stays as it is, to `rows` in order, or to all rows; other rows go on.

        Raises:
            ValueError: The snapshot's number of rows, shape of clips, world or task differ; nothing changes.
        """
        num_rows = self.num_rows if rows is None else len(rows)
        if snapshot.commanded.shape[:2] != (num_rows, self.poses_per_clip):
            raise ValueError(
                f"snapshot: expected {num_rows} row(s) with clips of {self.poses_per_clip} poses, "
                f"got {list(snapshot.commanded.shape[:2])}; restore it where it was taken, or choose rows of it"
            )
        spec, task = self.world.spec, self.task_config.task
        size = (self.frames_per_clip, spec.height, spec.width, 3)
        if snapshot.frames.shape[1:] != size:
            raise ValueError(
                f"snapshot: expected clips of shape {list(size)}, got {list(snapshot.frames.shape[1:])}; "
                "restore it in the world it was taken in"
            )
        is_known = not isinstance(self.world, RecognisesStates) or self.world.recognises(snapshot.state)
        if not is_known or (self.is_started and _layout(snapshot.state.memory) != _layout(self.current.state.memory)):
            raise ValueError(
                "snapshot: expected one of this world, got another world's; restore it in the world it was taken in"
            )
        expected = self.current.episode_data if self.is_started else self._runner.blank()
        if _layout(snapshot.episode_data) != _layout(expected) or bool(
            (snapshot.episode_data["fingerprint"] != task.fingerprint).any()
        ):
            raise ValueError(
                "snapshot: expected one of the same task, got another's or one with other arguments; "
                "restore it where it was taken"
            )
        assert rows is None or self.is_started, "rows: start all rows before single ones"
        self._replace(snapshot[range(num_rows)], 0, rows)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Puts everything back as it was if the block raises."""
        kept = self._current, self.evaluations
        try:
            yield
        except BaseException:  # an interrupt too
            self._current, self.evaluations = kept
            raise

    def _named_prompts(self, seeds: Sequence[int], prompts: Sequence[str | None] | None, has_image: bool) -> list[str]:
        """The prompt of every row: the given one, or the one that the world will choose."""
        named = []
        for seed, prompt in zip(seeds, [None] * len(seeds) if prompts is None else prompts, strict=True):
            if prompt is None and not has_image and isinstance(self.world, NamesItsPrompt):
                prompt = self.world.default_prompt(seed)
            named.append(prompt or "")
        return named

    def _replace(self, new: SessionSnapshot, evaluations: Int[Tensor, " n"] | int, rows: Sequence[int] | None) -> None:
        """Replaces rows; never writes into the old tensors, since snapshots may share them."""
        if self._current is not None:  # a snapshot read from a file may lie on another device
            device = self._current.state.c2w.device
            new = replace(
                new, state=new.state.to(device), commanded=new.commanded.to(device), frames=new.frames.to(device)
            )
        self._current = new if rows is None else self.current.with_rows(rows, new)
        self.evaluations = self.evaluations.clone()
        self.evaluations[slice(None) if rows is None else list(rows)] = evaluations

    def _evaluations(self, state: WorldState, opening: bool = False) -> Int[Tensor, " n"]:
        if isinstance(self.world, CountsEvaluations):
            return self.world.evaluations(state, opening=opening)
        spec = self.world.spec
        return torch.full((len(state.seed),), spec.evaluations_per_opening if opening else spec.evaluations_per_clip)


def _layout(episode_data: TensorDict) -> dict[Any, tuple[Any, ...]]:
    """The layout of episode data: names, shapes of a row, types."""
    return {name: (*value.shape[1:], value.dtype) for name, value in episode_data.items(True, True)}
