"""How strongly the moving objects move: optical flow less the flow that the camera's own motion explains.

Needs the optional extra `evaluation` (OpenCV's DIS flow, which has no weights).
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.evaluation.truth import SceneTruth
from model.geometry.camera import pixel_grid, project, unproject

_ENLARGED = 4  # small frames are enlarged for the flow, whose patches are 8 pixels wide
_MARGIN = 2  # pixels round the moving objects that belong to them


def require_flow() -> None:
    """Raises ValueError unless OpenCV is installed."""
    try:
        import cv2  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            "motion: expected OpenCV for the optical flow, found none; pip install 'cameractrlworld[evaluation]' "
            "or leave it at false"
        ) from error


def optical_flow(first: UInt8[Tensor, "h w 3"], second: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w 2"]:
    """Pixels (right, down) by which the content of the first frame moves to the second: dense inverse search."""
    import cv2

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
    """The flow in pixels of a scene in which nothing moves but the camera."""
    height, width = depth.shape
    grid = pixel_grid(height, width)
    uv, _ = project(unproject(grid, depth.clamp(max=1000.0), first, intrinsics), second, intrinsics)
    return (uv - grid) * torch.tensor([width, height])


@dataclass
class MotionStrength:
    """Sums of flow lengths over moving objects, per clip: generated, true, and with the objects frozen."""

    generated: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    frozen: list[float] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)

    def add(self, clip: int, generated: float, true: float, frozen: float, pixels: int) -> None:
        """Counts a pair of frames of a clip."""
        while len(self.pixels) <= clip:
            for values in (self.generated, self.true, self.frozen):
                values.append(0.0)
            self.pixels.append(0)
        self.generated[clip] += generated
        self.true[clip] += true
        self.frozen[clip] += frozen
        self.pixels[clip] += pixels

    def summary(self) -> dict[str, float | list[float] | None]:
        """Generated / true over everything, the same with frozen objects (the floor), pixels a frame, per clip."""
        true, pixels = sum(self.true), sum(self.pixels)
        if not pixels or true <= 0:
            return {"ratio": None, "ratio_frozen": None, "true_pixels_a_frame": None, "ratio_per_clip": []}
        pairs = zip(self.generated, self.true, strict=True)
        return {
            "ratio": round(sum(self.generated) / true, 3),
            "ratio_frozen": round(sum(self.frozen) / true, 3),
            "true_pixels_a_frame": round(true / pixels, 3),
            "ratio_per_clip": [round(g / max(t, 1e-6), 3) for g, t in pairs],
        }


def measure_motion(
    truths: list[SceneTruth],
    frames: UInt8[Tensor, "n f h w 3"],
    poses: Float[Tensor, "n f 4 4"],
    frames_per_clip: int,
    *,
    every: int = 4,
) -> MotionStrength:
    """Compares the flow from every `every`-th frame to its successor, where the moving objects ever pass.

    Everywhere they pass, not only where they truly are: an object that has gone elsewhere still moves.
    """
    require_flow()
    strength = MotionStrength()
    for truth, generated, path in zip(truths, frames, poses, strict=True):
        for number in range(1, len(path) - 1, every):
            clip = (number - 1) // frames_per_clip
            strength.add(clip, *_pair(truth, generated[number : number + 2], path[number : number + 2], number))
    return strength


def _pair(truth: SceneTruth, frames: Tensor, poses: Tensor, number: int) -> tuple[float, float, float, int]:
    region = _grown(truth.swept(poses[:1])[0])
    times = torch.tensor([number, number + 1]) / truth.fps
    true = truth.clip(poses, times)
    by_camera = camera_flow(true.depth[0], poses[0], poses[1], truth.intrinsics)
    frozen = truth.clip(poses, times[:1].expand(2)).frames
    lengths = [
        float((optical_flow(pair[0], pair[1]) - by_camera).norm(dim=-1)[region].sum())
        for pair in (frames, true.frames, frozen)
    ]
    return lengths[0], lengths[1], lengths[2], int(region.sum())


def _grown(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    size = 2 * _MARGIN + 1
    return torch.nn.functional.max_pool2d(mask.float()[None, None], size, stride=1, padding=_MARGIN)[0, 0] > 0
