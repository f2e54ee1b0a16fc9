"""See as much new space as possible for each metre flown."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.tasks.task import ResetContext, Task, TaskState, check_positive


@dataclass(kw_only=True)
class Explore(Task):
    """`CameraCtrlWorld-Explore-v0`: see as much new space as possible for each metre flown.

    ## Description

    The space that the camera has seen is kept as voxels: those whose centre was in the view frustum of a pose, up to
    `reach` metres of depth. Occlusion is ignored, so that the rule is the same in worlds without depth. The view of
    the first frame is covered from the start.

    ## Rewards

    New volume (m³) divided by the metres flown in this clip, but at least by `shortest`: m³/m. Straight flight earns
    the frustum's cross-section at `reach` (22.6 m² with the defaults), a turn earns more.

    `info["covered_volume"]`: m³ seen so far, the first frame's included.

    ## Episode End

    Never terminated; truncated after 32 clips.

    ## Arguments

    | Argument   | Default | Meaning                                                             |
    |------------|---------|---------------------------------------------------------------------|
    | `reach`    | 4.0     | m, depth of the frustum                                             |
    | `voxel`    | 0.5     | m, edge of a voxel                                                  |
    | `shortest` | 1.0     | m, least length by which new volume is divided                      |
    | `extent`   | 64.0    | m, width of the mapped region round the start; height is a quarter  |
    """

    reach: float = 4.0
    voxel: float = 0.5
    shortest: float = 1.0
    extent: float = 64.0

    def __post_init__(self) -> None:
        for name in ("reach", "voxel", "shortest"):
            check_positive(name, getattr(self, name))
        if self.extent < 8 * self.voxel:
            raise ValueError(f"extent: expected at least 8 voxels of {self.voxel} m, got {self.extent}; enlarge it")

    @property
    def _shape(self) -> tuple[int, int, int]:
        wide, high = int(self.extent / self.voxel / 8) * 8, int(self.extent / self.voxel / 8) * 2
        return wide, high, wide

    def open(self, context: ResetContext) -> TaskState:
        seen = rewards.view_voxels(context.c2w[None], context.intrinsics, self.reach, self.voxel, self._shape)
        covered, count = rewards.newly_covered(np.zeros(self._shape, bool), seen)
        return {"covered": np.packbits(covered), "count": np.array(count)}

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        seen = rewards.view_voxels(transition.c2w, transition.intrinsics, self.reach, self.voxel, self._shape)
        before = np.unpackbits(state["covered"]).astype(bool).reshape(self._shape)
        covered, count = rewards.newly_covered(before, seen)
        length = rewards.path_length(transition.start_c2w, transition.c2w)
        reward = rewards.coverage_per_metre(count * self.voxel**3, length, self.shortest)
        return {"covered": np.packbits(covered), "count": np.array(state["count"] + count)}, reward, False

    def info(self, state: TaskState) -> dict[str, Any]:
        return {"covered_volume": float(state["count"]) * self.voxel**3}
