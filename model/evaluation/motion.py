"""Motion strength of moving objects: optical flow where objects pass, minus the flow that the camera's motion explains.

Needs the optional extra `evaluation` (OpenCV's DIS flow, which has no weights).

Source: ours, after the paper's motion strength (Sec. 4.2). A generated camera is never exactly where it was commanded,
which would count as motion of objects: so the camera is fitted to the static pixels. Flicker of surfaces does count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from model.evaluation.truth import CameraTruth
from model.evaluation.video_quality import ratios
from model.geometry import se3
from model.geometry.camera import pixel_grid, project, unproject
from model.optional_dependency import require

_ENLARGED = 4  # small frames are enlarged for the flow, whose patches are 8 pixels wide
_MARGIN = 2  # pixels round the moving objects that belong to them
_LEAST_REST = 0.1  # share of the pixels that must be static, so that the camera can be fitted
_METRES, _RADIANS = 0.01, 0.004  # steps of the numerical derivative of the camera's flow
_NOISE = 0.05  # pixels of flow; smaller residuals have the same weight in the camera's fit


def optical_flow(first: UInt8[Tensor, "h w 3"], second: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w 2"]:
    """Pixels (right, down) by which the content of the first frame moves to the second: dense inverse search."""
    cv2 = require("cv2", extra="evaluation")
    height, width = first.shape[:2]
    size = (width * _ENLARGED, height * _ENLARGED)
    grey = [
        cv2.resize(cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC)
        for frame in (first, second)
    ]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)
    flow = np.asarray(estimator.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)), np.float32)
    blocks = torch.from_numpy(flow).view(height, _ENLARGED, width, _ENLARGED, 2)
    return blocks.mean(dim=(1, 3)) / _ENLARGED


def camera_flow(
    depth: Float[Tensor, "h w"],
    first: Float[Tensor, "4 4"],
    second: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "4"],
) -> Float[Tensor, "h w 2"]:
    """The flow in pixels of a scene in which only the camera moves."""
    height, width = depth.shape
    grid = pixel_grid(height, width)
    uv, _ = project(unproject(grid, depth.clamp(max=1000.0), first, intrinsics), second, intrinsics)
    return (uv - grid) * torch.tensor([width, height])


@dataclass(frozen=True)
class MotionRatio:
    """Per clip, over the pixels that moving objects pass: sum of the flow, generated and true; number of pixels."""

    generated: Float[Tensor, " clips"]
    true: Float[Tensor, " clips"]
    pixels: Float[Tensor, " clips"]

    def summary(self) -> dict[str, float | list[float | None] | None]:
        """Generated / true over all clips (0 for a frozen world), true pixels of flow per frame, the ratio per clip."""
        generated, true, pixels = (float(values.sum()) for values in (self.generated, self.true, self.pixels))
        return {
            "ratio": round(generated / true, 3) if true > 0 else None,
            "true_pixels_a_frame": round(true / pixels, 3) if pixels else None,
            "ratio_per_clip": ratios(self.generated, self.true, 3),
        }


def measure_motion(
    truths: Sequence[CameraTruth],
    frames: UInt8[Tensor, "n f h w 3"],
    poses: Float[Tensor, "n f 4 4"],
    frames_per_clip: int,
    *,
    every: int = 3,
) -> MotionRatio:
    """Compares the flow from every `every`-th frame to the next, at all pixels that a moving object passes.

    All these pixels count, not only those where the object truly is now: a misplaced object still moves. `every` shares
    no divisor with the 4 frames of a latent, so that pairs within a latent and across two latents alternate.
    """
    num_clips = -(-(poses.shape[1] - 2) // frames_per_clip)
    sums = torch.zeros(3, num_clips, dtype=torch.float64)
    for truth, generated, path in zip(truths, frames, poses, strict=True):
        for number in range(1, len(path) - 1, every):
            clip = (number - 1) // frames_per_clip
            pair = slice(number, number + 2)
            sums[:, clip] += torch.tensor(_pair(truth, generated[pair], path[pair], number), dtype=torch.float64)
    return MotionRatio(*sums)


def _pair(truth: CameraTruth, frames: Tensor, poses: Tensor, number: int) -> tuple[float, float, int]:
    """Flow summed over the pixels that objects pass, of the frames and the true frames; and the number of these pixels,
    0 if too few pixels are static.

    The same measure in true frames whose objects stand still is subtracted, so that a frozen world has 0.
    """
    times = torch.tensor([number, number + 1]) / truth.fps
    true = truth.clip(poses, times)
    camera = _CameraFlow(true.depth[0], poses, truth.intrinsics)
    passed = _grown(truth.swept(poses[:1])[0])
    passed, rests = passed & camera.inside, ~passed & camera.inside
    if float(rests.float().mean()) < _LEAST_REST:
        return 0.0, 0.0, 0
    frozen = truth.clip(poses, times[:1].expand(2)).frames
    left, left_true, left_frozen = (
        float(camera.unexplained(pair, rests)[passed].sum()) for pair in (frames, true.frames, frozen)
    )
    return left - left_frozen, left_true - left_frozen, int(passed.sum())


class _CameraFlow:
    """The flow that a camera near the commanded one causes from one frame to the next, linear in the twist between."""

    def __init__(self, depth: Float[Tensor, "h w"], poses: Float[Tensor, "2 4 4"], intrinsics: Float[Tensor, "4"]):
        self.commanded = camera_flow(depth, poses[0], poses[1], intrinsics)
        size = torch.tensor([depth.shape[1], depth.shape[0]])
        self._lands = pixel_grid(*depth.shape) + self.commanded / size
        self.inside = ((self._lands > 0) & (self._lands < 1)).all(dim=-1)
        steps = torch.tensor([_METRES] * 3 + [_RADIANS] * 3)
        ends = [
            [camera_flow(depth, poses[0], poses[1] @ se3.exp(t), intrinsics) for t in (-d, d)] for d in steps.diag()
        ]
        self._by_twist = torch.stack([after - before for before, after in ends], dim=-1) / (2 * steps)

    def unexplained(self, pair: UInt8[Tensor, "2 h w 3"], rests: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """Pixels of flow that no camera near the commanded one explains; the camera is fitted to the static pixels.

        The second frame is first warped back by the commanded flow: the remaining flow is small, and well measured.
        """
        second = pair[1].movedim(-1, 0)[None].float()
        back = functional.grid_sample(second, self._lands[None] * 2 - 1, "bicubic", "border", align_corners=False)
        flow = optical_flow(pair[0], back[0].clamp(0, 255).round().byte().movedim(0, -1).contiguous())
        rows, wanted = self._by_twist[rests].flatten(0, 1).double(), flow[rests].flatten().double()
        weights = torch.ones_like(wanted)
        for _ in range(8):  # least absolute deviations, by reweighting
            normal = rows.T @ (weights[:, None] * rows) + 1e-6 * torch.eye(6, dtype=torch.float64)
            twist = torch.linalg.solve(normal, rows.T @ (weights * wanted))
            weights = 1 / (wanted - rows @ twist).abs().clamp(min=_NOISE)
        return (flow - self._by_twist @ twist.to(flow.dtype)).norm(dim=-1)


def _grown(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    size = 2 * _MARGIN + 1
    return functional.max_pool2d(mask.float()[None, None], size, stride=1, padding=_MARGIN)[0, 0] > 0
