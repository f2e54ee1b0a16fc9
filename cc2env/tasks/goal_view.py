"""Reach the pose from which a given picture was taken."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.tasks.task import (
    ResetContext,
    Task,
    TaskState,
    check_count,
    check_not_negative,
    check_positive,
    is_close,
    wander,
)

_GOAL_TRIES = 8


@dataclass(kw_only=True)
class GoalView(Task):
    """`CameraCtrlWorld-GoalView-v0`: reach the pose from which a given picture was taken.

    ## Description

    At `reset` a copy of the episode is flown along a random path of `goal_clips` clips. Its last frame is the goal
    picture, in which moving things have moved. The path keeps clear of obstacles where the world knows them.

    ## Rewards

    Progress: the decrease of the pose distance to the goal, in metres (metres between the centres plus
    `rotation_weight` times radians between the directions), and `success_reward` once, on arrival.

    | Key of `info`   | Value                                                                                 |
    |-----------------|---------------------------------------------------------------------------------------|
    | `goal_image`    | uint8 [h, w, 3], also `env.unwrapped.goal_image`                                      |
    | `goal_c2w`      | float32 [4, 4], the pose to reach, for evaluation: an agent should not need it         |
    | `goal_distance` | float, pose distance to the goal, metres                                              |
    | `is_success`    | bool                                                                                  |

    ## Episode End

    Terminated when the last pose of a clip is within `success_distance` and `success_angle` of the goal's; truncated
    after 16 clips.

    ## Arguments

    | Argument           | Default | Meaning                                                  |
    |--------------------|---------|----------------------------------------------------------|
    | `goal_clips`       | 2       | clips of flight between start and goal                   |
    | `success_distance` | 0.3     | m                                                        |
    | `success_angle`    | 0.15    | rad                                                      |
    | `success_reward`   | 1.0     | reward on arrival                                        |
    | `rotation_weight`  | 1.0     | m for each rad                                           |
    """

    goal_clips: int = 2
    success_distance: float = 0.3
    success_angle: float = 0.15
    success_reward: float = 1.0
    rotation_weight: float = rewards.ROTATION_WEIGHT

    def __post_init__(self) -> None:
        check_count("goal_clips", self.goal_clips)
        for name in ("success_distance", "success_angle"):
            check_positive(name, getattr(self, name))
        check_not_negative("rotation_weight", self.rotation_weight)

    def open(self, context: ResetContext) -> TaskState:
        """Draws a goal and takes its picture."""
        paths = []
        for _ in range(_GOAL_TRIES):  # an obstacle may end a path near its start
            twists = wander(context.rng, self.goal_clips * context.poses_per_clip, context.poses_per_clip)
            paths.append(context.plan(twists))
            if not self._is_there(paths[-1][-1], context.c2w, margin=3.0):
                break
        path = max(paths, key=lambda poses: self._distance(poses[-1], context.c2w))
        goal = path[-1].astype(np.float32)
        distance = np.array(self._distance(context.c2w, goal))
        no = np.array(False)
        return {"image": context.look(path), "c2w": goal, "distance": distance, "success": no, "arrived": no}

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        here, goal = transition.c2w[-1], state["c2w"]
        reward = rewards.progress(transition.start_c2w, here, goal, self.rotation_weight)
        success = self._is_there(here, goal)
        had_arrived = bool(state["arrived"])
        after = {
            **state,
            "distance": np.array(self._distance(here, goal)),
            "success": np.array(success),
            "arrived": np.array(had_arrived or success),
        }
        return after, reward + self.success_reward * (success and not had_arrived), success

    def info(self, state: TaskState) -> dict[str, Any]:
        return {
            "goal_image": state["image"].copy(),
            "goal_c2w": state["c2w"].copy(),
            "goal_distance": float(state["distance"]),
            "is_success": bool(state["success"]),
        }

    def _distance(self, c2w: np.ndarray, goal: np.ndarray) -> float:
        return float(rewards.pose_distance(c2w, goal, self.rotation_weight))

    def _is_there(self, c2w: np.ndarray, goal: np.ndarray, margin: float = 1.0) -> bool:
        return is_close(c2w, goal, margin * self.success_distance, margin * self.success_angle)
