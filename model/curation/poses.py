"""Decides which reconstructions are good enough to label a clip, and fills in the few poses that they lack."""

from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from jaxtyping import Bool
from torch import Tensor

from model.estimators.sfm import Reconstruction
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory


@dataclass(kw_only=True)
class PosesConfig:
    """What a reconstruction must reach.

    Attributes:
        min_registered: Share of the frames that have a pose.
        min_observations: Points that every registered frame must see: with fewer, a pose cannot be trusted.
        max_reprojection_error: Pixels, mean over all observations.
        max_gap: Most successive frames without a pose; they are filled in.
        max_outliers: Most successive frames at a wrong place; they are filled in as if they had no pose.
        max_flow_distance: Pixels, per 320 of the width, by which a step of the path may differ from the flow.
        max_epipolar_excess: Share of the reliable pixels that a step may leave off their epipolar lines beyond those
            that the two pictures' own geometry leaves, too.
        max_mean_epipolar_excess: The same, as a mean over five successive steps.
        min_flow_share: Share of a frame's points that the flow must follow to the next frame and back.
    """

    min_registered: float = 0.8
    min_observations: int = 20
    max_reprojection_error: float = 1.5
    max_gap: int = 4
    max_outliers: int = 2
    max_flow_distance: float = 2.0
    max_epipolar_excess: float = 0.1
    max_mean_epipolar_excess: float = 0.05
    min_flow_share: float = 0.25


def pose_rejection(reconstruction: Reconstruction, config: PosesConfig) -> str:
    """Returns why the clip is rejected, with the numbers; empty if it is kept."""
    registered = reconstruction.registered
    share = float(registered.float().mean())
    if share < config.min_registered or not registered.any():
        return f"{int(registered.sum())} of {len(registered)} frames have a pose, less than {config.min_registered}"
    fewest = int(reconstruction.num_observations[registered].min())
    if fewest < config.min_observations:
        return f"a frame sees {fewest} points, fewer than {config.min_observations}"
    error = reconstruction.reprojection_error
    if not error <= config.max_reprojection_error:
        return f"points are reprojected {error:.2f} pixels off, more than {config.max_reprojection_error}"
    if not (registered[0] and registered[-1]):
        return "the first or the last frame has no pose"
    gap = longest_gap(registered)
    if gap > config.max_gap:
        return f"{gap} successive frames have no pose, more than {config.max_gap}"
    return ""


def longest_gap(registered: Bool[Tensor, " f"]) -> int:
    """Returns the largest number of successive frames without a pose."""
    return max((len(list(run)) for known, run in groupby(registered.tolist()) if not known), default=0)


def fill_gaps(reconstruction: Reconstruction) -> CameraTrajectory:
    """Returns the path with a pose for every frame: a gap is filled at even steps along the screw between its ends.

    Raises:
        ValueError: the first or the last frame has no pose, so that frames lie beyond the known ends.

    Source: ours, because the mean of two matrices is no rotation (`se3.interpolate`).
    """
    registered, c2w = reconstruction.registered, reconstruction.c2w.clone()
    if not (registered[0] and registered[-1]):
        raise ValueError("reconstruction: expected a pose of the first and the last frame, got none; reject the clip")
    for before, after in pairwise(registered.nonzero()[:, 0].tolist()):
        inside = torch.arange(before + 1, after)
        fraction = ((inside - before) / (after - before)).to(c2w.dtype)
        c2w[inside] = se3.interpolate(c2w[before], c2w[after], fraction)
    return CameraTrajectory(c2w, reconstruction.intrinsics.expand(len(c2w), 4))
