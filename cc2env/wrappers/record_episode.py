"""Keeps every frame of every clip and the pose of every frame: each episode becomes a labelled video."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from cc2env.geometry import CameraTrajectory, write_realestate10k
from cc2env.recording import FORMATS, atomic_path, write_film


class RecordEpisode(gym.Wrapper[np.ndarray, Any, np.ndarray, Any], gym.utils.RecordConstructorArgs):
    """Writes each episode as `<prefix>-<number>.mp4` and `.gif`, and its poses as `<prefix>-<number>.txt`.

    Gymnasium's `RecordVideo` keeps one frame for each step; here a step is a clip. The text is RealEstate10K's: one
    row for each frame, in the order of the film, timestamps in microseconds, so it can be trained on or flown again.
    An episode is written when it ends, at the next `reset` and at `close`; one without a step leaves no file.

    Args:
        env: A CameraCtrlWorld, or a wrapper that leaves observations and `info` as they are.
        folder: Where the files go; it is made.
        prefix: Beginning of the files' names.
        formats: Any of ".mp4" and ".gif"; mp4 is lossy, as every film.
        scale: Enlarges the pictures; the intrinsics in the text hold at any size.
        every: Records the episodes 0, every, 2 * every ...

    Raises:
        ValueError: The observations are no clips of uint8 RGB frames, a format is unknown, or every is less than 1.
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
        space = env.observation_space
        if space.shape is None or len(space.shape) != 4 or space.shape[3] != 3 or space.dtype != np.uint8:
            raise ValueError(f"env: expected observations uint8 (frames, height, width, 3), got {space}; record inside")
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown:
            raise ValueError(f"formats: expected some of {list(FORMATS)}, got {unknown}; leave them out")
        if every < 1:
            raise ValueError(f"every: expected an integer of at least 1, got {every}")
        self.folder = Path(folder)
        self.prefix, self.formats, self.scale, self.every = prefix, tuple(formats), scale, every
        self.episode = -1
        self._frames: list[np.ndarray] = []
        self._poses: list[np.ndarray] = []
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
            self._intrinsics = info["intrinsics"].copy()
        return observation, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Steps and keeps all frames of the clip."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._frames:
            self._frames.append(observation.copy())
            self._poses.append(info["achieved_c2w"].copy())
        if terminated or truncated:
            self._write()
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Writes the episode that was running and closes the environment."""
        self._write()
        super().close()

    def frame_trajectory(self) -> CameraTrajectory:
        """Returns the pose of every frame recorded so far in this episode.

        Raises:
            ValueError: This episode is not recorded.
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
        if len(self._frames) > 1:
            frames = np.concatenate(self._frames)
            fps = float(self.env.metadata["render_fps"])
            stem = self.folder / f"{self.prefix}-{self.episode:04d}"
            for suffix in self.formats:
                write_film(stem.with_suffix(suffix), frames, fps, self.scale)
            timestamps = [round(index * 1e6 / fps) for index in range(len(frames))]
            with atomic_path(stem.with_suffix(".txt")) as partial:
                write_realestate10k(partial, self.frame_trajectory(), timestamps=timestamps)
        self._frames, self._poses = [], []
