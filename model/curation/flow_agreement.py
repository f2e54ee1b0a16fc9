"""Does a path agree with the pictures? Structure from motion is asked again by the flow, which it has never seen."""

from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.estimators.optical_flow import OpticalFlow
from model.estimators.sfm import Reconstruction
from model.geometry.camera import project

_WIDTH = 320  # pixels: the width that distances are told for
_RETURNS = 1.0  # pixels at that width, and a share of the way: flow that does not come back is not believed
_RETURNS_SHARE = 0.05
_BEHIND = 1e3  # pixels: a point that the path puts behind the camera is nowhere in the picture


def flow_disagreement(
    frames: UInt8[Tensor, "f h w 3"], reconstruction: Reconstruction, flow: OpticalFlow, min_share: float
) -> Float[Tensor, " f"]:
    """Returns how far the step to each frame, from the one with a pose before it, leads off the flow.

    A frame's sparse points are seen in the next frame where the path says; the flow leads from the same pixels
    somewhere, too. The distance is the median over the points, in pixels per 320 of the width, of the worse of the two
    directions. A step is infinitely far off if the flow comes back at fewer than `min_share` of the points: nothing is
    known of it. 0 where no step ends: at the first frame with a pose, and at frames without one.

    Where two pieces of a path are glued together at repeated texture, where one frame is put elsewhere, or where the
    unit of length jumps, every observation fits its point, but the pictures on both sides do not fit each other.

    Source: ours.
    """
    distance = torch.zeros(len(frames))
    for before, after in pairwise(reconstruction.registered.nonzero()[:, 0].tolist()):
        forth, back = flow(frames[before], frames[after]), flow(frames[after], frames[before])
        distance[after] = max(
            _median_distance(reconstruction, before, after, forth, back, min_share),
            _median_distance(reconstruction, after, before, back, forth, min_share),
        )
    return distance


def flow_rejection(distance: Float[Tensor, " f"], largest: float) -> str:
    """Returns which steps do not agree with the flow, by the worst of them; empty if all do."""
    off = (distance > largest).nonzero()[:, 0].tolist()
    if not off:
        return ""
    worst = int(distance.argmax())
    size = "out of the flow's sight" if distance[worst].isinf() else f"{float(distance[worst]):.1f} pixels off the flow"
    return f"{len(off)} steps of the path do not agree with the flow; the one to frame {worst} is {size}"


def _median_distance(
    solved: Reconstruction, start: int, end: int, forth: Tensor, back: Tensor, min_share: float
) -> float:
    rows = solved.frame_of == start
    height, width = forth.shape[:2]
    pixels, unit = solved.pixels[rows], width / _WIDTH
    moved = _sampled(forth, pixels)
    missed = (moved + _sampled(back, pixels + moved)).norm(dim=-1)
    inside = ((pixels + moved >= 0) & (pixels + moved <= torch.tensor([width, height]))).all(dim=-1)
    believed = inside & (missed < _RETURNS * unit + _RETURNS_SHARE * moved.norm(dim=-1))
    if not believed.any() or float(believed.float().mean()) < min_share:
        return float("inf")
    uv, depth = project(solved.points[solved.point_of[rows]], solved.c2w[end], solved.intrinsics)
    distance = (uv * torch.tensor([width, height]) - pixels - moved).norm(dim=-1) / unit
    return float(torch.where(depth > 0, distance, _BEHIND)[believed].median())


def _sampled(flow: Float[Tensor, "h w 2"], pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
    """Returns the flow at places counted from the picture's upper left corner, between its pixels."""
    grid = 2 * pixels / torch.tensor([flow.shape[1], flow.shape[0]]) - 1
    sampled = torch.nn.functional.grid_sample(
        flow.movedim(-1, 0)[None], grid[None, None], padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T
