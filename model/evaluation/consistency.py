"""What lasts: the picture after leaving and coming back, and the scene before a camera that stands still for long."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.data.clips import FRAMES_PER_LATENT
from model.evaluation.motion import MotionStrength, measure_motion
from model.evaluation.oracle import OracleScenes, fly
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import contrast, masked_psnr, sharpness
from model.world.protocol import WorldModel

_MOMENTS = 24  # at which a pixel must look as if nothing moved, to count as static


@dataclass(frozen=True)
class Revisit:
    """Frames out and back, and the mean PSNR in dB over static pixels of the last frame, per scene; NaN without any.

    `returned` compares with the frame given at the start; `departed` is the same for the frame where the camera turned
    round: what coming back is better than.
    """

    frames: UInt8[Tensor, "n f h w 3"]
    returned: list[float]
    departed: list[float]

    def summary(self, num_clips: int) -> dict[str, float | int | None]:
        """Means over the scenes that have static pixels (None if there is none), and how many have not."""
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
    """A path and then the same poses in reverse, to the first one."""
    return torch.cat([poses, poses[:, :-1].flip(1)], dim=1)


def measure_revisit(
    world: WorldModel, scenes: OracleScenes, truths: list[SceneTruth], poses: Float[Tensor, "n p 4 4"], batch_size: int
) -> Revisit:
    """Flies `poses` (from identity, whole clips) out and back; see `Revisit`."""
    frames = fly(world, scenes, out_and_back(poses), batch_size, "leaving and coming back")
    turn = (poses.shape[1] - 1) * FRAMES_PER_LATENT
    returned, departed = [], []
    for truth, first, seen in zip(truths, scenes.frames[:, 0], frames, strict=True):
        still = static_pixels(truth, (frames.shape[1] - 1) / truth.fps)
        returned.append(masked_psnr(seen[-1], first, still))
        departed.append(masked_psnr(seen[turn], first, still))
    return Revisit(frames, returned, departed)


def static_pixels(truth: SceneTruth, seconds: float) -> Bool[Tensor, "h w"]:
    """Pixels of the first view that no moving object or its shadow changes, in particular not after `seconds`."""
    times = torch.cat([torch.arange(_MOMENTS) / 2.0, torch.tensor([seconds])])
    poses = torch.eye(4).expand(len(times), 4, 4)
    moved = truth.disturbed(poses, times).any(dim=0)
    return ~(moved | truth.swept(poses[:1], 2 * _MOMENTS)[0])


@dataclass(frozen=True)
class Stillness:
    """A camera that stands still: per clip, sharpness and contrast over the true ones, and the motion of objects."""

    frames: UInt8[Tensor, "n f h w 3"]
    sharpness: list[float]
    contrast: list[float]
    motion: MotionStrength | None

    def summary(self) -> dict[str, object]:
        """Ratios generated / true per clip; 1 is right, a falling line is a picture that washes out or freezes."""
        motion = None if self.motion is None else self.motion.summary()
        return {"sharpness_ratio": self.sharpness, "contrast_ratio": self.contrast, "motion": motion}


def measure_stillness(
    world: WorldModel,
    scenes: OracleScenes,
    truths: list[SceneTruth],
    num_clips: int,
    batch_size: int,
    *,
    with_motion: bool,
) -> Stillness:
    """Stands still at the first pose for `num_clips` clips."""
    spec = world.spec
    poses = torch.eye(4).expand(len(truths), 1 + num_clips * spec.poses_per_clip, 4, 4)
    frames = fly(world, scenes, poses, batch_size, "standing still")
    per_frame = torch.eye(4).expand(len(truths), frames.shape[1], 4, 4)
    sums = torch.zeros(4, num_clips)
    for truth, seen in zip(truths, frames, strict=True):
        for clip in range(num_clips):
            numbers = torch.arange(clip * spec.frames_per_clip + 1, (clip + 1) * spec.frames_per_clip + 1, 4)
            true = truth.clip(per_frame[0, numbers], numbers / truth.fps).frames
            shown = seen[numbers]
            values = [sharpness(shown), sharpness(true), contrast(shown), contrast(true)]
            sums[:, clip] += torch.stack([value.mean() for value in values])
    ratios = [[round(v, 3) for v in (a / b.clamp(min=1e-6)).tolist()] for a, b in (sums[:2], sums[2:])]
    motion = measure_motion(truths, frames, per_frame, spec.frames_per_clip) if with_motion else None
    return Stillness(frames, ratios[0], ratios[1], motion)
