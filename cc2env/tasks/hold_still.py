"""Keep the camera still while the scene moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.tasks.task import ResetContext, Task, TaskState, check_not_negative


@dataclass(kw_only=True)
class HoldStill(Task):
    """`CameraCtrlWorld-HoldStill-v0`: keep the camera still while the scene moves.

    ## Description

    To stay still is best. The task shows what a world does without commands, and whether an agent can stay still.

    ## Rewards

    Minus the camera's motion in this clip: metres along its path plus `rotation_weight` times the radians that it
    turned. At best 0.

    `info["moved"]`: the same sum since `reset`, in metres.

    ## Episode End

    Never terminated; truncated after 16 clips.

    ## Arguments

    | Argument          | Default | Meaning        |
    |-------------------|---------|----------------|
    | `rotation_weight` | 1.0     | m for each rad |
    """

    rotation_weight: float = rewards.ROTATION_WEIGHT

    def __post_init__(self) -> None:
        check_not_negative("rotation_weight", self.rotation_weight)

    def open(self, context: ResetContext) -> TaskState:
        return {"moved": np.array(0.0)}

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        moved = rewards.camera_motion(transition.start_c2w, transition.c2w, self.rotation_weight)
        return {"moved": np.array(state["moved"] + moved)}, -moved, False

    def info(self, state: TaskState) -> dict[str, Any]:
        return {"moved": float(state["moved"])}
