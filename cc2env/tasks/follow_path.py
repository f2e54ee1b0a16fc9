"""Fly a given path, pose by pose, in time."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cc2env import rewards
from cc2env.actions import pieces_needed
from cc2env.rewards import Transition
from cc2env.spaces import twist_bounds
from cc2env.tasks.task import ResetContext, Task, TaskState, check_count, check_not_negative, wander
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory
from model.geometry.trajectory_io import read_timed_trajectory


@dataclass(kw_only=True)
class FollowPath(Task):
    """`CameraCtrlWorld-FollowPath-v0`: fly a given path, pose by pose, in time.

    ## Description

    The path has one pose for each latent pose. Without `path`, `reset` draws one: `num_clips` clips of smooth flight,
    clear of obstacles where the world knows them.

    ## Rewards

    Minus the mean pose distance between the poses of the clip and those of the path at the same times, in metres
    (metres between the centres plus `rotation_weight` times radians between the directions). At best 0.

    | Key of `info`     | Value                                                                                    |
    |-------------------|------------------------------------------------------------------------------------------|
    | `reference_c2w`   | float32 [poses_per_clip, 4, 4], the path in the next clip; past its end its last pose    |
    | `path_error`      | float, the mean pose distance in the last clip; 0 after `reset`                          |

    ## Episode End

    Terminated at the end of the path; truncated after 64 clips.

    ## Arguments

    | Argument          | Default | Meaning                                                                          |
    |-------------------|---------|----------------------------------------------------------------------------------|
    | `num_clips`       | 8       | length of the path that is drawn; no effect beside `path`                        |
    | `path`            | `None`  | a file (RealEstate10K text or .npy) or an array [n, 4, 4]: poses, the first of   |
    |                   |         | which becomes the start pose. A text is flown by its timestamps; without them    |
    |                   |         | each row is a latent pose. A path too fast for the action space is stretched in  |
    |                   |         | time, with a warning                                                             |
    | `fps`             | `None`  | rows of `path` a second, instead of its timestamps                               |
    | `rotation_weight` | 1.0     | m for each rad                                                                   |
    """

    num_clips: int = 8
    path: str | Path | np.ndarray | None = None
    fps: float | None = None
    rotation_weight: float = rewards.ROTATION_WEIGHT

    def __post_init__(self) -> None:
        check_count("num_clips", self.num_clips)
        check_not_negative("rotation_weight", self.rotation_weight)
        if self.fps is not None and self.path is None:
            raise ValueError(f"fps: expected none without a path, got {self.fps}; give path, or leave it out")
        self._given: np.ndarray | None = None
        self._seconds: np.ndarray | None = None
        if self.path is not None:
            self._given, self._seconds = _read_path(self.path, self.fps)

    def open(self, context: ResetContext) -> TaskState:
        """Draws a path, unless one was given."""
        if self._given is not None:
            path = context.c2w @ _in_time(self._given, self._seconds, context.seconds_per_pose)
        else:
            num_poses = self.num_clips * context.poses_per_clip
            path = context.plan(wander(context.rng, num_poses, context.poses_per_clip))
        return {
            "path": path.astype(np.float32),
            "flown": np.array(0),
            "next": _window(path, 0, context.poses_per_clip),
            "error": np.array(0.0),
        }

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        """Compares the clip with its part of the path."""
        path, length = state["path"], len(transition.c2w)
        error = rewards.path_error(transition.c2w, state["next"], self.rotation_weight)
        done = int(state["flown"]) + length
        after = {"path": path, "flown": np.array(done), "next": _window(path, done, length), "error": np.array(error)}
        return after, -error, done >= len(path)

    def info(self, state: TaskState) -> dict[str, Any]:
        return {"reference_c2w": state["next"].copy(), "path_error": float(state["error"])}


def _window(path: np.ndarray, first: int, length: int) -> Float[np.ndarray, "p 4 4"]:
    index = np.minimum(np.arange(first, first + length), len(path) - 1)
    return path[index].astype(np.float32)


def _read_path(
    path: str | Path | np.ndarray, fps: float | None
) -> tuple[Float[np.ndarray, "n 4 4"], Float[np.ndarray, " n"] | None]:
    """The poses of a path relative to its first one, and their seconds, if they are known."""
    if isinstance(path, np.ndarray):
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps: expected a positive number of rows a second, got {fps}")
        poses = torch.from_numpy(path.astype(np.float64))
        se3.check_poses("path", poses)
        seconds = None if fps is None else torch.arange(len(poses), dtype=torch.float64) / fps
    else:
        trajectory, seconds = read_timed_trajectory(path, fps=fps)
        poses = trajectory.c2w.double()
    if poses.ndim != 3 or len(poses) < 2:
        raise ValueError(f"path: expected at least 2 poses [n, 4, 4], got {list(poses.shape)}; give a longer one")
    return se3.relative(poses[0], poses).numpy(), None if seconds is None else seconds.numpy()


def _in_time(
    poses: Float[np.ndarray, "n 4 4"], seconds: Float[np.ndarray, " n"] | None, seconds_per_pose: float
) -> Float[np.ndarray, "m 4 4"]:
    """The latent poses after the first one: resampled, and stretched where they would be too fast."""
    path = CameraTrajectory(torch.from_numpy(poses), torch.ones(len(poses), 4, dtype=torch.float64))
    if seconds is not None:
        path = path.in_time(torch.from_numpy(seconds), seconds_per_pose)
    pieces = pieces_needed(path, twist_bounds(), float(np.abs(poses[:, :3, 3]).max()))
    if pieces > 1:
        warnings.warn(f"path: too fast for the action space, so it is flown {pieces} times as slowly", stacklevel=2)
        path = path.resample((len(path) - 1) * pieces + 1)
    later: np.ndarray = path.c2w[1:].numpy()
    return later
