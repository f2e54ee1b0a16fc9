"""Fly a given path, pose by pose, in time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.tasks.task import Memory, Opening, Task, check_count, check_not_negative, wander
from model.geometry import se3
from model.geometry.trajectory_io import read_trajectory


@dataclass(kw_only=True)
class FollowPath(Task):
    """`CameraCtrlWorld-FollowPath-v0`: fly a given path, pose by pose, in time.

    ## Description

    The path has one pose for each latent pose. Without `path` it is drawn at `reset`: `num_clips` clips of smooth
    flight, clear of obstacles where the world knows them.

    ## Rewards

    Minus the mean pose distance between the poses of the clip and those of the path at the same times, in metres
    (metres between the centres plus `rotation_weight` times radians between the directions). At best 0.

    | Key of `info`     | Value                                                                                    |
    |-------------------|------------------------------------------------------------------------------------------|
    | `reference_c2w`   | float32 [poses_per_clip, 4, 4], the path's poses in the next clip; past its end the last |
    | `path_error`      | float, the mean pose distance in the last clip; 0 after `reset`                          |

    ## Episode End

    Terminated at the end of the path; truncated after 64 clips.

    ## Arguments

    | Argument          | Default | Meaning                                                                          |
    |-------------------|---------|----------------------------------------------------------------------------------|
    | `num_clips`       | 8       | length of the path that is drawn; without effect beside `path`                   |
    | `path`            | `None`  | a file (RealEstate10K text or .npy) or an array [n, 4, 4]: poses, the first of   |
    |                   |         | which becomes the start pose                                                     |
    | `rotation_weight` | 1.0     | m for each rad                                                                   |
    """

    num_clips: int = 8
    path: str | Path | np.ndarray | None = None
    rotation_weight: float = rewards.ROTATION_WEIGHT

    def __post_init__(self) -> None:
        """Checks the arguments and reads the path."""
        check_count("num_clips", self.num_clips)
        check_not_negative("rotation_weight", self.rotation_weight)
        self._given = None if self.path is None else _read_path(self.path)

    def open(self, opening: Opening) -> Memory:
        """Draws a path, unless one was given."""
        if self._given is not None:
            path = opening.c2w @ self._given
        else:
            num_poses = self.num_clips * opening.poses_per_clip
            path = opening.plan(wander(opening.rng, num_poses, opening.poses_per_clip))
        return {
            "path": path.astype(np.float32),
            "flown": np.array(0),
            "next": _window(path, 0, opening.poses_per_clip),
            "error": np.array(0.0),
        }

    def judge(self, memory: Memory, transition: Transition) -> tuple[Memory, float, bool]:
        """Compares the clip with its part of the path."""
        path, length = memory["path"], len(transition.c2w)
        error = rewards.path_error(transition.c2w, memory["next"], self.rotation_weight)
        done = int(memory["flown"]) + length
        after = {"path": path, "flown": np.array(done), "next": _window(path, done, length), "error": np.array(error)}
        return after, -error, done >= len(path)

    def info(self, memory: Memory) -> dict[str, Any]:
        """What lies ahead."""
        return {"reference_c2w": memory["next"].copy(), "path_error": float(memory["error"])}


def _window(path: np.ndarray, first: int, length: int) -> Float[np.ndarray, "p 4 4"]:
    index = np.minimum(np.arange(first, first + length), len(path) - 1)
    return path[index].astype(np.float32)


def _read_path(path: str | Path | np.ndarray) -> Float[np.ndarray, "n 4 4"]:
    """The poses of a path after its first one, as that one sees them."""
    if isinstance(path, np.ndarray):
        poses = torch.from_numpy(path.astype(np.float32))
        se3.check_poses("path", poses)
    else:
        poses = read_trajectory(path).c2w
    if poses.ndim != 3 or len(poses) < 2:
        raise ValueError(f"path: expected at least 2 poses [n, 4, 4], got {list(poses.shape)}; give a longer one")
    relative: np.ndarray = se3.relative(poses[0], poses[1:]).numpy()
    return relative
