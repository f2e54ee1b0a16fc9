"""Two controls, made with the renderer's geometry: the best that a world could show without guessing.

Source: ours, because a ceiling that knows the future (the VAE's reconstruction of the truth) does not say how much
of the future can be known from one frame.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from model.evaluation.truth import CameraTruth
from model.evaluation.visibility import SKY_METRES, seen_at_start
from model.geometry.camera import pixel_grid, project, unproject


def time_stopped(truth: CameraTruth, c2w: Float[Tensor, "f 4 4"]) -> UInt8[Tensor, "f h w 3"]:
    """The true scene of frame 0 from every pose: all surfaces are known, but no later motion."""
    return truth.clip(c2w, torch.zeros(len(c2w))).frames


def first_frame_carried(
    truth: CameraTruth, first: UInt8[Tensor, "h w 3"], c2w: Float[Tensor, "f 4 4"]
) -> UInt8[Tensor, "f h w 3"]:
    """The first frame warped to every pose by the true depth, time stopped: it follows the camera exactly and imagines
    nothing. Surfaces that it does not show get the colours round them, or its mean colour if there are none.
    """
    height, width = first.shape[:2]
    start = torch.eye(4)
    depth = truth.depth(c2w, torch.zeros(len(c2w)))
    shown = seen_at_start(depth, truth.depth(start[None], torch.zeros(1))[0], c2w, start, truth.intrinsics)
    points = unproject(
        pixel_grid(height, width), depth.clamp(max=SKY_METRES), c2w[:, None, None], truth.intrinsics.view(1, 1, 1, 4)
    )
    uv, _ = project(points, start, truth.intrinsics)
    source = (first.movedim(-1, 0).float() / 255).expand(len(c2w), 3, height, width)
    carried = functional.grid_sample(source, uv * 2 - 1, "bicubic", "border", align_corners=False)
    filled = _filled(carried, shown, source[0].mean(dim=(1, 2)))
    return (filled.clamp(0, 1) * 255).round().byte().movedim(1, -1)


def _filled(
    values: Float[Tensor, "f 3 h w"], known: Bool[Tensor, "f h w"], otherwise: Float[Tensor, "3"]
) -> Float[Tensor, "f 3 h w"]:
    """Unknown pixels get the mean of the known pixels in the smallest square round them that has any."""
    known = known[:, None]
    result, missing = values * known, ~known
    longest = max(values.shape[-2:])
    radius = 1
    while bool(missing.any()) and radius < 2 * longest:
        share = functional.avg_pool2d(known.float(), 2 * radius + 1, stride=1, padding=radius)
        mean = functional.avg_pool2d(values * known, 2 * radius + 1, stride=1, padding=radius) / share.clamp(min=1e-9)
        reached = missing & (share > 0)
        result = torch.where(reached, mean, result)
        missing = missing & ~reached
        radius *= 2
    return torch.where(missing, otherwise[:, None, None], result)
