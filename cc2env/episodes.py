"""A batch of episodes, each with a random generator and a limit of clips: what the environment classes share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from jaxtyping import Float, UInt8

from cc2env.options import EnvOptions
from cc2env.pictures import load_picture
from cc2env.session import Session
from cc2env.shared_world import SharedWorld
from cc2env.snapshot import EnvSnapshot, positive_integer, random_state
from cc2env.task_runner import TaskConfig
from model.world.protocol import WorldModel


class Episodes:
    """A batch of episodes; every environment class is a view of one. Each row has a random generator of its own.

    Attributes:
        session: Flies the rows.
        generators: Random generator of each row, from which resets draw.
        seeds: Seed of each generator.

    Args:
        world: A name, a folder, or a world that is already built, shared or not.
        options: Options of the world and the clips.
        task_config: The task, its reward, and what obstacles do.
        num_rows: The number b of episodes.
        max_clips: Clips after which an episode is over; None is never.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: An argument is out of range or has no effect.
    """

    def __init__(
        self,
        world: str | Path | WorldModel | SharedWorld,
        options: EnvOptions,
        task_config: TaskConfig,
        num_rows: SupportsIndex = 1,
        max_clips: SupportsIndex | None = None,
    ) -> None:
        count = positive_integer("num_envs", num_rows)
        expected = "None or an integer of at least 1"
        self._max_clips = None if max_clips is None else positive_integer("max_episode_steps", max_clips, expected)
        self.session = Session(world, count, options, task_config)
        drawn = [seeding.np_random() for _ in range(count)]
        self.generators, self.seeds = [generator for generator, _ in drawn], [seed for _, seed in drawn]

    @property
    def num_rows(self) -> int:
        return self.session.num_rows

    def seed(self, rows: Sequence[int], seeds: Sequence[int | None]) -> None:
        """Gives rows new generators; where the seed is None, the old one goes on.

        Raises:
            ValueError: A seed is negative.
        """
        for seed in seeds:
            if seed is not None and seed < 0:
                raise ValueError(f"seed: expected integers of at least 0, got {seed}")
        for row, seed in zip(rows, seeds, strict=True):
            if seed is not None:
                self.generators[row], self.seeds[row] = seeding.np_random(seed)

    def open(
        self,
        rows: Sequence[int],
        prompts: Sequence[str | None] | None = None,
        images: np.ndarray | None = None,
    ) -> None:
        """Begins new episodes in these rows (in ascending order); see `Session.reset`."""
        # Drawn even if the world then refuses the options: what a seed gives does not depend on them.
        noise_seeds = [int(self.generators[row].integers(2**31 - 1)) for row in rows]
        everything = len(rows) == self.num_rows
        self.session.reset(noise_seeds, prompts, images, None if everything else rows)

    def set_prompt(self, prompt: object, rows: Sequence[int] | None = None) -> None:
        """Gives rows new prompts from their next clip on: one text for all, or one for each (None keeps the old one).

        Raises:
            ValueError: It is no text, there is not one for each row, or the world cannot change prompts in flight.
        """
        count = self.num_rows if rows is None else len(rows)
        self._check_rows(rows)
        prompts = [prompt] * count if isinstance(prompt, str) else prompt
        if (
            not isinstance(prompts, (list, tuple))
            or len(prompts) != count
            or not all(each is None or isinstance(each, str) for each in prompts)
        ):
            raise ValueError(f"prompt: expected a text, or {count} of them, one for each row, got {prompt!r}")
        self.session.set_prompts(prompts, rows)

    def require_reset(self, call: str) -> None:
        """Raises ResetNeeded before the first reset of all rows."""
        if not self.session.is_started:
            raise ResetNeeded(f"{call}: expected running episodes, got none; call reset() first")

    def picture(self, image: object) -> UInt8[np.ndarray, "h w 3"]:
        """Returns a user's picture in the size of the world's frames; see `load_picture`."""
        spec = self.session.world.spec
        return load_picture(image, spec.height, spec.width)

    def fork_arguments(self) -> dict[str, Any]:
        """Returns the arguments of an environment that continues from here; the snapshot holds the camera."""
        config = self.session.task_config
        return {
            "world": self.session.world,
            "poses_per_clip": self.session.poses_per_clip,
            "collision": config.collision,
            "task": config.task,
            "reward": config.reward,
        }

    def observations(self) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns a copy of the last clip of every row; after a reset the first frame, f times."""
        clips: np.ndarray = self.session.current.frames.cpu().numpy().copy()
        return clips

    def rewards(self) -> Float[np.ndarray, " b"]:
        """Returns the reward of every row's last clip."""
        rewards: np.ndarray = self.session.current.episode_data["reward"].numpy().copy()
        return rewards

    def info(self, row: int) -> dict[str, Any]:
        """Returns a row's `info` for Gymnasium, with the task's part; its arrays are copies."""
        session, now = self.session, self.session.current
        return {
            "c2w": now.commanded[row].cpu().numpy().copy(),
            "achieved_c2w": now.episode_data["achieved"][row].numpy().copy(),
            "blocked": bool(now.episode_data["blocked"][row]),
            "intrinsics": now.state.intrinsics[row].cpu().numpy().copy(),
            "clip_index": int(now.clip_index[row]),
            "seconds": float(session.seconds()[row]),
            "function_evaluations": int(session.evaluations[row]),
            "prompt": now.prompts[row],
            **session.task_info(row),
        }

    def over(self) -> np.ndarray:
        """Returns which episodes have ended or flown all their clips, bool [b]."""
        return self.terminated() | self.truncated()

    def terminated(self) -> np.ndarray:
        """Returns which episodes' tasks have ended, bool [b]."""
        ended: np.ndarray = self.session.current.episode_data["terminated"].numpy().copy()
        return ended

    def truncated(self) -> np.ndarray:
        """Returns which episodes have flown all their clips, bool [b]."""
        if self._max_clips is None:
            return np.zeros(self.num_rows, dtype=bool)
        over: np.ndarray = self.session.current.clip_index.numpy() >= self._max_clips
        return over

    def snapshot(self) -> EnvSnapshot:
        """Returns a snapshot of all rows; it shares no memory with them."""
        return EnvSnapshot(self.session.snapshot(), tuple(random_state(each) for each in self.generators))

    def restore(self, snapshot: EnvSnapshot, rows: Sequence[int] | None = None) -> None:
        """Restores a snapshot, which stays as it is, to `rows` in order, or to all rows; other rows go on.

        Raises:
            ValueError: It is no snapshot, its number of rows, clips, world or task differ, or a row does not exist;
                the episodes go on.
        """
        if not isinstance(snapshot, EnvSnapshot):
            raise ValueError(
                f"snapshot: expected what an environment's snapshot() gave, got {type(snapshot).__name__}; "
                "take one first"
            )
        self._check_rows(rows)
        generators = snapshot.generators()  # raises before anything changes
        self.session.restore(snapshot.session, rows)
        for row, generator in zip(range(self.num_rows) if rows is None else rows, generators, strict=True):
            self.generators[row] = generator

    def _check_rows(self, rows: Sequence[int] | None) -> None:
        if rows is not None and (len(set(rows)) != len(rows) or not set(rows) <= set(range(self.num_rows))):
            raise ValueError(f"rows: expected different rows in 0..{self.num_rows - 1}, got {list(rows)}")

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Puts everything back as it was if the block raises, the random generators too."""
        states = [each.bit_generator.state for each in self.generators]
        try:
            with self.session.all_or_nothing():
                yield
        except BaseException:  # an interrupt too
            for generator, state in zip(self.generators, states, strict=True):
                generator.bit_generator.state = state
            raise
