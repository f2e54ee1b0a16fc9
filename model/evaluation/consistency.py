"""Consistency over time: the picture after leaving and coming back, and the scene in front of a camera at rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.evaluation.motion import measure_motion
from model.evaluation.oracle import OracleScenes, fly
from model.evaluation.truth import CameraTruth
from model.evaluation.video_quality import contrast, masked_psnr, sharpness
from model.world.protocol import WorldModel

_MOMENTS = 24  # at all of them a pixel must look as if nothing moved, to count as static


@dataclass(frozen=True)
class Revisit:
    """PSNR in dB over static pixels against the frame given at the start, per scene; NaN without such pixels.

    `returned` is of the last frame; `departed` of the frame where the camera turned round: the control.
    """

    returned: list[float]
    departed: list[float]

    def summary(self, num_clips: int) -> dict[str, float | int | None]:
        """Means over the scenes with static pixels (None if there is none), and the number of scenes without."""
        return {
            "clips_out": num_clips,
            "psnr_returned": _mean(self.returned),
            "psnr_turning_point": _mean(self.departed),
            "scenes_without_static_pixels": sum(map(math.isnan, self.returned)),
        }


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(sum(known) / len(known), 3) if known else None


def out_and_back(poses: Float[Tensor, "n p 4 4"]) -> Float[Tensor, "n q 4 4"]:
    """A path, and then the same poses in reverse back to the first one."""
    return torch.cat([poses, poses[:, :-1].flip(1)], dim=1)


def measure_revisit(
    world: WorldModel,
    scenes: OracleScenes,
    truths: Sequence[CameraTruth],
    poses: Float[Tensor, "n p 4 4"],
    batch_size: int,
) -> Revisit:
    """Flies `poses` (from identity, whole clips) out and back; see `Revisit`."""
    frames = fly(world, scenes, out_and_back(poses), batch_size, "leaving and coming back")
    turn = (poses.shape[1] - 1) * scenes.frames_per_pose
    returned, departed = [], []
    for truth, first, seen in zip(truths, scenes.frames[:, 0], frames, strict=True):
        still = static_pixels(truth, (frames.shape[1] - 1) / truth.fps)
        returned.append(masked_psnr(seen[-1], first, still))
        departed.append(masked_psnr(seen[turn], first, still))
    return Revisit(returned, departed)


def static_pixels(truth: CameraTruth, seconds: float) -> Bool[Tensor, "h w"]:
    """Pixels of the first view that no moving object and no shadow of one changes, also not after `seconds`."""
    times = torch.cat([torch.arange(_MOMENTS) / 2.0, torch.tensor([seconds])])
    poses = torch.eye(4).expand(len(times), 4, 4)
    moved = truth.disturbed(poses, times).any(dim=0)
    return ~(moved | truth.swept(poses[:1], 2 * _MOMENTS)[0])


def measure_stillness(
    world: WorldModel,
    scenes: OracleScenes,
    truths: Sequence[CameraTruth],
    num_clips: int,
    batch_size: int,
    *,
    with_motion: bool,
) -> dict[str, object]:
    """Stands still at the first pose for `num_clips` clips: sharpness, contrast and motion, generated / true, per clip.

    1 is right; falling values mean a picture that washes out or freezes.
    """
    spec = world.spec
    poses = torch.eye(4).expand(len(truths), 1 + num_clips * spec.poses_per_clip, 4, 4)
    frames = fly(world, scenes, poses, batch_size, "standing still")
    per_frame = torch.eye(4).expand(len(truths), frames.shape[1], 4, 4)
    numbers = torch.arange(1, frames.shape[1], spec.frames_per_pose)
    true = torch.stack([truth.clip(per_frame[0, numbers], numbers / truth.fps).frames for truth in truths])
    section: dict[str, object] = {}
    for name, measure in (("sharpness", sharpness), ("contrast", contrast)):
        shown, wanted = (measure(f).unflatten(1, (num_clips, -1)).mean(dim=(0, 2)) for f in (frames[:, numbers], true))
        section[f"{name}_ratio"] = [round(value, 3) for value in (shown / wanted.clamp(min=1e-6)).tolist()]
    motion = measure_motion(truths, frames, per_frame, spec.frames_per_clip).summary() if with_motion else None
    return section | {"motion": motion}
