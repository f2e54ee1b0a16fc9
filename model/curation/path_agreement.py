"""Checks each step of a path against the flow and the epipolar geometry of the two pictures that it joins.

The flow is independent evidence: structure from motion does not use it. Source: ours.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from model.curation.poses import PosesConfig
from model.estimators.motion_mask import reliable_flow
from model.estimators.optical_flow import OpticalFlow
from model.estimators.sfm import Reconstruction
from model.estimators.static_scene import StaticScene, fit_static_scene
from model.geometry import se3
from model.geometry.camera import project

_WIDTH = 320  # pixels: distances are scaled to a picture of this width
_RETURNS = 1.0  # pixels at that width, plus a share of the way: flow that returns farther from its start is not used
_RETURNS_SHARE = 0.05
_BEHIND = 1e3  # pixels: the distance of a point that the path puts behind the camera
_OFF_LINE = 1.0  # pixels off the epipolar line, at that width
_TEXTURE = 0.4  # grey levels per pixel: in a smoother sky, flow follows the compression's noise, which stands still
_FEWEST = 500  # pixels of reliable flow, without which the epipolar lines are not compared
_WINDOW = 5  # successive steps over which the mean excess is taken
_STANDS = 1e-3  # of the path's median step: a camera that stands has no epipolar geometry


@dataclass(frozen=True, eq=False)
class StepErrors:
    """Errors of the step to each frame from the last frame with a pose; 0 at frames where no step ends.

    Attributes:
        flow_distance: Distance between where the path and where the flow put a frame's sparse points in the other
            frame: median over the points, pixels per 320 of the width, in the worse of the two directions. Infinite
            if the flow comes back at too few of the points: then nothing is known of the step. It finds pieces of a
            path that are joined wrongly at repeated texture, frames at a wrong place, and jumps of the unit of length:
            there every observation fits its point, but the pictures do not fit each other.
        epipolar_excess: The share of reliable, static pixels whose flow ends farther than a pixel from the epipolar
            line of the path and its lens, less the same share for the geometry that fits these pixels best. 0 also
            where the camera stands, and where too little flow is reliable. It finds a path that follows one surface
            and loses the rest of the scene: its own points agree with it, the other pixels do not.
            See H. C. Longuet-Higgins, A computer algorithm for reconstructing a scene from two projections, 1981.
            Its mean over five steps finds a drift, whose single steps are hardly worse than right ones.
        ends: Frames at which a step ends.
    """

    flow_distance: Float[Tensor, " f"]
    epipolar_excess: Float[Tensor, " f"]
    ends: Int[Tensor, " s"]

    def inconsistent_steps(self, config: PosesConfig) -> Bool[Tensor, " f"]:
        """Returns which steps disagree with the pictures: the jumps, and the steps of a drift."""
        off = self.jumps(config)
        off[self._windows(self.ends)[self.mean_excess(config) > config.max_mean_epipolar_excess]] = True
        return off

    def jumps(self, config: PosesConfig) -> Bool[Tensor, " f"]:
        """Returns which single steps are off, without the mean over several."""
        return (self.flow_distance > config.max_flow_distance) | (self.epipolar_excess > config.max_epipolar_excess)

    def mean_excess(self, config: PosesConfig) -> Float[Tensor, " w"]:
        """Returns the mean epipolar excess over every five successive steps; a jump does not count."""
        return self._windows(self.epipolar_excess.masked_fill(self.jumps(config), 0)[self.ends]).mean(dim=-1)

    def _windows(self, of_steps: Shaped[Tensor, " s"]) -> Shaped[Tensor, "w n"]:
        return of_steps.unfold(0, min(_WINDOW, len(of_steps)), 1) if len(of_steps) else of_steps[:, None]

    def rejection(self, config: PosesConfig) -> str:
        """Returns how many steps are off and how far the worst is off; empty if none is."""
        distance, excess = self.flow_distance, self.epipolar_excess
        if count := int((distance > config.max_flow_distance).sum()):
            worst = int(distance.argmax())
            pixels = float(distance[worst])
            size = "out of the flow's sight" if pixels == float("inf") else f"{pixels:.1f} pixels off the flow"
            return f"{count} steps of the path do not agree with the flow; the one to frame {worst} is {size}"
        if count := int((excess > config.max_epipolar_excess).sum()):
            worst = int(excess.argmax())
            return (
                f"{count} steps of the path leave pixels off their epipolar lines; the one to frame {worst} "
                f"{100 * float(excess[worst]):.0f} % more than the two pictures must"
            )
        means = self.mean_excess(config)
        if (means > config.max_mean_epipolar_excess).any():
            window = self._windows(self.ends)[worst := int(means.argmax())]
            return (
                f"the steps to frames {window[0]} to {window[-1]} leave pixels off their epipolar lines: "
                f"{100 * float(means[worst]):.1f} % on average more than the pictures must"
            )
        return ""


def step_errors(
    frames: UInt8[Tensor, "f h w 3"],
    moving: Bool[Tensor, "f h w"],
    solved: Reconstruction,
    flow: OpticalFlow,
    min_flow_share: float,
) -> StepErrors:
    """Returns how far each step of the path is off; the flow is estimated once for each step and direction.

    Args:
        frames: The clip.
        moving: Pixels of moving objects, which have no epipolar line.
        solved: The path.
        flow: Estimator of the flow.
        min_flow_share: Share of a frame's points at which the flow must come back.
    """
    distance, excess = torch.zeros(len(frames)), torch.zeros(len(frames))
    known = solved.registered.nonzero()[:, 0].tolist()
    shortest = _STANDS * float(solved.c2w[known, :3, 3].diff(dim=0).norm(dim=-1).median()) if len(known) > 1 else 0.0
    for before, after in pairwise(known):
        forth, back = flow(frames[before], frames[after]), flow(frames[after], frames[before])
        distance[after] = max(
            _median_distance(solved, before, after, forth, back, min_flow_share),
            _median_distance(solved, after, before, back, forth, min_flow_share),
        )
        relative = se3.relative(solved.c2w[after], solved.c2w[before])
        usable = reliable_flow(frames[before], forth.numpy(), back.numpy(), _TEXTURE) & ~moving[before].numpy()
        if float(relative[:3, 3].norm()) > shortest and usable.sum() >= _FEWEST:
            path = StaticScene(fundamental_matrix(relative, solved.intrinsics, *frames.shape[1:3]), False)
            pictures = fit_static_scene(forth.numpy(), usable)
            excess[after] = _share_off(path, forth.numpy(), usable) - _share_off(pictures, forth.numpy(), usable)
    return StepErrors(distance, excess.clamp(min=0), torch.tensor(known[1:], dtype=torch.long))


def fundamental_matrix(
    relative: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "4"], height: int, width: int
) -> Float[np.ndarray, "3 3"]:
    """Returns F with p_after^T F p_before = 0, pixels counted from the first pixel's centre.

    Args:
        relative: The earlier camera's pose in the axes of the later one.
        intrinsics: The lens of both, normalised.
        height: Pixels.
        width: Pixels.
    """
    pose, (fx, fy, cx, cy) = relative.double().numpy(), intrinsics.double().tolist()
    x, y, z = pose[:3, 3]
    essential = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ pose[:3, :3]
    camera = np.array([[fx * width, 0, cx * width - 0.5], [0, fy * height, cy * height - 0.5], [0, 0, 1]])
    inverse = np.linalg.inv(camera)
    return np.asarray(inverse.T @ essential @ inverse)


def _share_off(scene: StaticScene, forth: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    residual = scene.nearest(forth.astype(np.float64)).residual[usable]
    return float((residual * (_WIDTH / forth.shape[1]) > _OFF_LINE).mean())


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
    sampled = grid_sample(flow.movedim(-1, 0)[None], grid[None, None], padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T
