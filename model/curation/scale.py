"""The metric scale of a reconstruction: the paper's Eq. 2 for each keyframe, and the mean of the results."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.estimators.metric_depth import MetricDepth
from model.estimators.sfm import Reconstruction


@dataclass(kw_only=True)
class ScaleConfig:
    """How Eq. 2 is solved.

    Attributes:
        num_keyframes: N, spread evenly over the clip.
        num_hypotheses: RANSAC's draws per keyframe.
        inlier_below: Limit of |s S - M| / M for an inlier.
        huber_delta: Where the Huber loss turns linear, as a share of the keyframe's median metric depth.
        min_points: Keyframes with fewer pixels of known depth, or fewer inliers, are left out.
        min_inlier_share: Keyframes with a smaller share of inliers are left out: then the reconstruction is wrong. This
            happens in a flat scene, whose pictures another path explains as well.
        seed: Of RANSAC's draws.
    """

    num_keyframes: int = 8
    num_hypotheses: int = 256
    inlier_below: float = 0.15
    huber_delta: float = 0.02
    min_points: int = 20
    min_inlier_share: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class SceneScale:
    """A clip's metres per unit.

    Attributes:
        scale: Mean over the keyframes.
        spread: Their standard deviation divided by the mean: 0 if the depths agree perfectly; the label's quality.
        frames: The keyframes' scales, by index of the frame.
    """

    scale: float
    spread: float
    frames: dict[int, float]


def keyframes(num_frames: int, num_keyframes: int) -> list[int]:
    """Returns evenly spread frame indices, with both ends (all frames, if there are fewer)."""
    count = min(num_frames, num_keyframes)
    if count < 2:
        return list(range(count))
    return [round(k * (num_frames - 1) / (count - 1)) for k in range(count)]


def frame_scale(
    sfm_depth: Float[Tensor, " p"], metric_depth: Float[Tensor, " p"], config: ScaleConfig | None = None
) -> float | None:
    """Returns s = argmin_s sum_p rho(|s S(p) - M(p)|) with the Huber loss rho; None if too few pixels support it.

    RANSAC draws hypotheses s = M(p) / S(p) from single pixels and keeps the one with the most inliers, so that
    outliers have no effect; the sum over its inliers is convex in s, and is minimised exactly.

    Args:
        sfm_depth: S: z-depth in the reconstruction's units; pixels that are not positive and finite are ignored.
        metric_depth: M: metres, at the same pixels; likewise.
        config: Settings.

    Source: the paper, Eq. 2; ours: thresholds relative to the depth, because an estimator errs by a percentage.
    """
    config = config or ScaleConfig()
    known = torch.isfinite(sfm_depth) & torch.isfinite(metric_depth) & (sfm_depth > 0) & (metric_depth > 0)
    source, target = sfm_depth[known].double(), metric_depth[known].double()
    if len(source) < config.min_points:
        return None
    inlier = _consensus(source, target, config)
    if inlier.sum() < max(config.min_points, config.min_inlier_share * len(source)):
        return None
    return _minimise_huber(source[inlier], target[inlier], config.huber_delta * float(target.median()))


def scene_scale(frames: dict[int, float | None]) -> SceneScale | None:
    """Returns the mean scale of the keyframes that have one, with its spread; None if none has.

    Source: the paper, Sec. 3.2: the final scale is the mean of the frames' scales; the spread is ours.
    """
    usable = {index: scale for index, scale in frames.items() if scale is not None}
    if not usable:
        return None
    scales = torch.tensor(list(usable.values()), dtype=torch.float64)
    mean = float(scales.mean())
    return SceneScale(mean, float(scales.std(unbiased=False)) / mean, usable)


def rescale(c2w: Float[Tensor, "f 4 4"], scale: float) -> Float[Tensor, "f 4 4"]:
    """Returns the poses with translations multiplied by the scale (E = [R; s t]).

    Raises:
        ValueError: the scale is not positive.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale: expected a positive number, got {scale}")
    metric = c2w.clone()
    metric[:, :3, 3] *= scale
    return metric


def _consensus(source: Tensor, target: Tensor, config: ScaleConfig) -> Tensor:
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randint(len(source), (config.num_hypotheses,), generator=generator)
    hypotheses = target[drawn] / source[drawn]
    # per hypothesis, not at once: a dense depth map has 10^5 pixels
    counts = [int(_inliers(source, target, float(scale), config).sum()) for scale in hypotheses]
    return _inliers(source, target, float(hypotheses[counts.index(max(counts))]), config)


def _inliers(source: Tensor, target: Tensor, scale: float, config: ScaleConfig) -> Tensor:
    return (scale * source - target).abs() < config.inlier_below * target


def _minimise_huber(source: Tensor, target: Tensor, delta: float) -> float:
    """Returns the minimiser by bisection of the derivative, which never falls: exact, without a step size."""
    ratios = target / source
    low, high = float(ratios.min()), float(ratios.max())
    for _ in range(60):
        middle = (low + high) / 2
        slope = float((source * (middle * source - target).clamp(-delta, delta)).sum())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2


def metric_scale(
    frames: UInt8[Tensor, "f h w 3"], reconstruction: Reconstruction, depth: MetricDepth, config: ScaleConfig
) -> SceneScale | None:
    """Solves Eq. 2 on the sparse points of keyframes that have a pose; metric depth is read at the points' pixels."""
    registered = reconstruction.registered.nonzero()[:, 0]
    chosen = [int(registered[k]) for k in keyframes(len(registered), config.num_keyframes)]
    pairs = {index: depth_pairs(frames, reconstruction, depth, index) for index in chosen}
    return scene_scale({index: frame_scale(sparse, metric, config) for index, (sparse, metric) in pairs.items()})


def depth_pairs(
    frames: UInt8[Tensor, "f h w 3"], reconstruction: Reconstruction, depth: MetricDepth, index: int
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Returns S and M of Eq. 2 for one frame: the depth of its sparse points, and metric depth at their pixels."""
    pixels, sparse = reconstruction.sparse_depth(index)
    metric = depth(frames[index])
    x, y = pixels.floor().long().unbind(dim=-1)
    inside = (x >= 0) & (y >= 0) & (x < metric.shape[1]) & (y < metric.shape[0])
    return sparse[inside], metric[y[inside], x[inside]]
