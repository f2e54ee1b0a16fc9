"""Keeps every frame of every clip and the pose of every frame: each episode becomes a labelled video."""

import json
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from cc2env.files import write_text
from cc2env.geometry import CameraTrajectory, write_realestate10k
from cc2env.recording import FORMATS, write_film
from cc2env.wrappers.clips import clip_space

if TYPE_CHECKING:
    from cc2env.env import CameraCtrlWorldEnv


class RecordEpisode(gym.Wrapper[np.ndarray, Any, np.ndarray, Any], gym.utils.RecordConstructorArgs):
    """Writes each episode as `<prefix>-<number>.mp4` and `.gif`, and its poses as `<prefix>-<number>.txt`.

    Gymnasium's `RecordVideo` keeps one frame for each step; here a step is a clip. The text is in RealEstate10K's
    format: one row for each frame in order, timestamps in microseconds; it can be trained on or flown again. Where an
    episode has prompts, `<prefix>-<number>.json` keeps them: `prompt`, of its first frame, and `prompts`, one for each
    clip.

    An episode is written when it ends, at the next `reset` and at `close`; an episode without a step leaves no file.

    Numbers go on after this prefix's highest in the folder, even where several recorders share it: no file is ever
    replaced. A write that fails leaves no file, and its episode is lost.

    A film shows one flight. If `env.unwrapped.restore` leads elsewhere, the next step writes the film of the flight
    until then, and recording stops until the next `reset`. The restore is noticed by `info["clip_index"]` and the
    camera's pose: if both are unchanged, it is not noticed.

    Args:
        env: A CameraCtrlWorld, or a wrapper that leaves observations and `info` as they are.
        folder: Folder of the files; it is made.
        prefix: Beginning of the files' names; it may name a folder inside `folder`.
        formats: Any of ".mp4" and ".gif"; mp4 is lossy, as every film.
        scale: Enlarges the pictures; the intrinsics in the text hold at any size.
        every: Records the episodes 0, every, 2 * every ... of this recorder.

    Attributes:
        episode: Number of this recorder's last reset, from 0 on; -1 before the first.

    Raises:
        ValueError: The observations are no clips of uint8 RGB frames, a format is unknown, scale or every is no
            integer of at least 1, or the prefix leads out of the folder.
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, Any],
        folder: str | PathLike[str],
        *,
        prefix: str = "episode",
        formats: Sequence[str] = FORMATS,
        scale: int = 1,
        every: int = 1,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self, folder=folder, prefix=prefix, formats=formats, scale=scale, every=every
        )
        gym.Wrapper.__init__(self, env)
        clip_space(env)
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown:
            raise ValueError(f"formats: expected some of {list(FORMATS)}, got {unknown}; leave them out")
        for name, number in (("scale", scale), ("every", every)):
            if not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, got {number}; leave it out for 1")
        self.folder = Path(folder)
        _check_prefix(self.folder, prefix)
        self.prefix, self.formats, self.scale, self.every = prefix, tuple(formats), scale, every
        self.episode = -1
        self._first_number = self._next_number()
        self._frames: list[np.ndarray] = []
        self._poses: list[np.ndarray] = []
        self._prompts: list[str] = []
        self._intrinsics = np.zeros(4, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Writes the episode that was running, then opens the next one."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._write()
        self.episode += 1
        if self.episode % self.every == 0:
            self._frames = [observation[:1].copy()]  # the first frame, repeated to a clip by `reset`
            self._poses = [info["achieved_c2w"][:1].copy()]
            self._prompts = [info["prompt"]]
            self._intrinsics = info["intrinsics"].copy()
        return observation, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Steps and keeps all frames of the clip, if it goes on where the last one ended."""
        env: "CameraCtrlWorldEnv" = self.unwrapped  # type: ignore[assignment]
        was_moved = bool(self._poses) and not np.array_equal(env.c2w, self._poses[-1][-1])
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._frames:
            goes_on = not was_moved and info["clip_index"] == len(self._frames)
            if goes_on:
                self._frames.append(observation.copy())
                self._poses.append(info["achieved_c2w"].copy())
                self._prompts.append(info["prompt"])
            if terminated or truncated or not goes_on:
                self._write()
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Writes the episode that was running and closes the environment."""
        self._write()
        super().close()

    def frame_trajectory(self) -> CameraTrajectory:
        """Returns the pose of every frame recorded so far in this episode.

        Raises:
            ValueError: This episode is not recorded, or no longer.
        """
        if not self._poses:
            raise ValueError(
                f"frame_trajectory: expected a recorded episode, got none (every={self.every}); reset first"
            )
        poses = torch.from_numpy(np.concatenate(self._poses))
        intrinsics = torch.from_numpy(self._intrinsics).expand(len(poses), 4)
        num_frames = sum(map(len, self._frames))
        # The first pose has one frame, every further one the frames that lead to it.
        return CameraTrajectory(poses, intrinsics).resample(num_frames)

    def _write(self) -> None:
        try:
            if len(self._frames) > 1:
                self._save()
        finally:  # even when the disk is full: no frame may stay for the next episode
            self._frames, self._poses, self._prompts = [], [], []

    def _save(self) -> None:
        trajectory, frames = self.frame_trajectory(), np.concatenate(self._frames)
        fps = float(self.env.get_wrapper_attr("fps"))
        timestamps = [round(index * 1e6 / fps) for index in range(len(frames))]
        text = self._claim()
        films = [text.with_name(text.name.removesuffix(".txt") + suffix) for suffix in self.formats]
        prompts = text.with_name(text.name.removesuffix(".txt") + ".json")
        try:
            write_realestate10k(text, trajectory, timestamps=timestamps, is_metric=True)
            if any(self._prompts):
                write_text(prompts, json.dumps({"prompt": self._prompts[0], "prompts": self._prompts[1:]}))
            for film in films:
                write_film(film, frames, fps, self.scale)
        except BaseException:  # also an interrupt: no film without its poses, no poses without their film
            for path in (text, prompts, *films):
                path.unlink(missing_ok=True)
            raise

    def _claim(self) -> Path:
        """Makes an empty text file under the first free number, and returns its path."""
        while True:
            number = max(self._first_number + self.episode, self._next_number())
            path = self.folder / f"{self.prefix}-{number:04d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.touch(exist_ok=False)
            except FileExistsError:  # another recorder was faster
                continue
            return path

    def _next_number(self) -> int:
        """Returns the number after the highest that is taken; the prefix may name a folder, too."""
        beginning = self.folder / f"{self.prefix}-"
        wanted = re.compile(re.escape(beginning.name) + r"([0-9]+)\.(?:mp4|gif|txt|json)")
        matches = [wanted.fullmatch(path.name) for path in beginning.parent.glob("*")]
        return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _check_prefix(folder: Path, prefix: str) -> None:
    """Raises unless files of this prefix lie in the folder, with symbolic links followed."""
    if "\0" in prefix or not (folder / f"{prefix}-").resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"prefix: expected the beginning of a name inside {folder}, got {prefix!r}; leave out '..'")
