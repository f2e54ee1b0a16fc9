"""The data of a clip for the page, beside its frames."""

import hashlib
from typing import Any

import numpy as np

from agents.fly.session import Clip
from cc2env.viewer.messages import plain_poses

_GOALS = ("goal_c2w", "reference_c2w")  # of the tasks' `info`


def clip_facts(clip: Clip) -> dict[str, Any]:
    """Returns the numbers of a clip as plain data: poses, costs, and the task's progress."""
    info = clip.info
    return {
        "clip": clip.index,
        "parent": clip.parent,
        "key": clip.key,
        "sha256": frames_digest([clip.frames]),
        "c2w": plain_poses(info["c2w"]),
        "achieved": plain_poses(info["achieved_c2w"]),
        "intrinsics": [float(value) for value in info["intrinsics"]],
        "goal": [row for name in _GOALS if name in info for row in plain_poses(info[name].reshape(-1, 4, 4))],
        "blocked": bool(info["blocked"]),
        "prompt": info["prompt"],
        "seconds": round(clip.seconds, 3),
        "evaluations": int(info["function_evaluations"]),
        "reward": round(clip.reward, 3),
        "success": bool(info.get("is_success", False)),
        "over": clip.is_over,
    }


def frames_digest(clips: list[np.ndarray]) -> str:
    """Returns the SHA-256 of all bytes of these frames."""
    digest = hashlib.sha256()
    for frames in clips:
        digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()
