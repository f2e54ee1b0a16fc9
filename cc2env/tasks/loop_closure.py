"""Fly away and return; on return, the similarity of the view to the first one is rewarded."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.tasks.task import ResetContext, Task, TaskState, check_not_negative, check_positive, is_close


@dataclass(kw_only=True)
class LoopClosure(Task):
    """`CameraCtrlWorld-LoopClosure-v0`: fly away and return; rewards a view similar to the first one.

    ## Description

    First fly at least `distance` metres away from the start, then return to its pose. The last reward measures how
    similar the world looks. In a world without memory it is small even for a perfect flight.

    ## Rewards

    On the way out, metres gained from the start (up to `distance` in all); on the way back, the decrease of the pose
    distance to the start, in metres. When the camera has left, the excess of its pose distance over `distance`
    (farther out, or turned away) is subtracted, so that detours get no reward: every loop gets 2 `distance`, minus
    its last pose distance to the start. On return, `similarity_weight` times the structural similarity of the last
    frame with the first, in [0, 1].

    | Key of `info`     | Value                                                                        |
    |-------------------|------------------------------------------------------------------------------|
    | `has_left`        | bool, whether the camera has been `distance` away                            |
    | `similarity`      | float, of the last frame with the first one; 1 after `reset`                 |
    | `is_success`      | bool, whether the camera is back                                             |

    ## Episode End

    Terminated when, after it has left, the last pose of a clip is within `return_distance` and `return_angle` of the
    start; truncated after 24 clips.

    ## Arguments

    | Argument            | Default | Meaning                                       |
    |---------------------|---------|-----------------------------------------------|
    | `distance`          | 1.5     | m, how far to go                              |
    | `return_distance`   | 0.3     | m                                             |
    | `return_angle`      | 0.15    | rad                                           |
    | `similarity_weight` | 1.0     | reward of a place that looks the same         |
    | `rotation_weight`   | 1.0     | m for each rad                                |
    """

    distance: float = 1.5
    return_distance: float = 0.3
    return_angle: float = 0.15
    similarity_weight: float = 1.0
    rotation_weight: float = rewards.ROTATION_WEIGHT

    def __post_init__(self) -> None:
        for name in ("distance", "return_distance", "return_angle"):
            check_positive(name, getattr(self, name))
        check_not_negative("rotation_weight", self.rotation_weight)
        if self.return_distance >= self.distance:
            raise ValueError(
                f"return_distance: expected less than the distance {self.distance}, got {self.return_distance}"
            )

    def open(self, context: ResetContext) -> TaskState:
        return {
            "home": context.c2w.astype(np.float32),
            "has_left": np.array(False),
            "similarity": np.array(1.0),
            "success": np.array(False),
            "returned": np.array(False),
        }

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        """Rewards the way out, the way back, and the similarity of the view."""
        home, had_left = state["home"], bool(state["has_left"])
        here = transition.c2w[-1]
        if had_left:
            reward = rewards.progress(transition.start_c2w, here, home, self.rotation_weight)
        else:
            away = rewards.distance_between(np.stack([transition.start_c2w, here]), np.stack([home, home]))
            reward = float(np.diff(np.minimum(away, self.distance))[0])
        has_left = had_left or bool(rewards.distance_between(here, home) >= self.distance)
        if has_left and not had_left:
            reward -= float(rewards.pose_distance(here, home, self.rotation_weight)) - self.distance
        had_returned = bool(state["returned"])
        success = has_left and is_close(here, home, self.return_distance, self.return_angle)
        similarity = rewards.picture_similarity(transition.first_frame, transition.frames[-1])
        after = {
            "home": home,
            "has_left": np.array(has_left),
            "similarity": np.array(similarity),
            "success": np.array(success),
            "returned": np.array(had_returned or success),
        }
        return after, reward + self.similarity_weight * similarity * (success and not had_returned), success

    def info(self, state: TaskState) -> dict[str, Any]:
        return {
            "has_left": bool(state["has_left"]),
            "similarity": float(state["similarity"]),
            "is_success": bool(state["success"]),
        }
