"""Estimates the unit of length of a non-metric world: Eq. 2 on a clip that the world generated along known poses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.curation.scale import ScaleConfig, metric_scale
from model.estimators.metric_depth import MetricDepth
from model.estimators.sfm import Reconstruction, StructureFromMotion
from model.geometry import se3
from model.geometry.alignment import similarity, trajectory_errors
from model.geometry.trajectory import frame_poses
from model.world.protocol import WorldModel

# of each pose, in the world's metres and in radians: sideways for parallax, with a turn to determine the lens
_TWIST = (0.15, 0.0, 0.05, 0.0, -0.02, 0.0)


@dataclass(frozen=True, kw_only=True)
class WorldUnit:
    """The estimated unit.

    Attributes:
        factor: Real metres in one metre of the world: multiply its `metres_per_unit` by it.
        spread: Standard deviation of the keyframes' scales over their mean; above 0.2 the estimate means little.
        path_error: How well the world follows: mean distance of the path in the pictures from the commanded path, as a
            share of its length, after the best fit.
    """

    factor: float
    spread: float
    path_error: float


def estimate_unit(
    world: WorldModel,
    sfm: StructureFromMotion,
    depth: MetricDepth,
    *,
    image: UInt8[Tensor, "h w 3"] | None = None,
    prompt: str | None = None,
    seed: int = 0,
) -> WorldUnit:
    """Flies one clip sideways, finds its path and points from the pictures, and compares them with metric depth.

    Args:
        world: The world; its `metres_per_unit` may have any value.
        sfm: Finds the path.
        depth: Estimates the pictures' depth in metres.
        image: The first frame; a picture of a static scene is best.
        prompt: The clip's prompt.
        seed: The clip's seed.

    Raises:
        ReconstructionFailed: No path is found in the pictures.
        ValueError: Too few frames have a pose or a scale.
    """
    state, first = world.start(
        [seed], None if prompt is None else [prompt], images=None if image is None else image[None]
    )
    steps = torch.arange(1, world.spec.poses_per_clip + 1)[:, None] * torch.tensor(_TWIST)
    commanded = se3.exp(steps)[None].to(state.c2w)
    _, clip = world.extend(state, commanded)
    path = frame_poses(state.c2w.cpu(), commanded.cpu(), world.spec.frames_per_pose)
    frames = torch.cat([first, clip], dim=1)[0].cpu()
    c2w = torch.cat([state.c2w[:, None].cpu(), path], dim=1)[0]
    return unit_of(frames, c2w, sfm(frames, None, state.intrinsics[0].cpu()), depth)


def unit_of(
    frames: UInt8[Tensor, "f h w 3"],
    commanded: Float[Tensor, "f 4 4"],
    reconstruction: Reconstruction,
    depth: MetricDepth,
    config: ScaleConfig | None = None,
) -> WorldUnit:
    """The unit from a clip's frames, its commanded poses, and its reconstruction.

    Raises:
        ValueError: Too few frames have a pose or a scale.

    Source: the paper, Eq. 2, for the reconstruction's unit in metres; the commanded path gives it in the world's unit.
    """
    registered = reconstruction.registered.nonzero()[:, 0]
    if len(registered) < 3:
        raise ValueError(f"frames: expected at least 3 with a pose, got {len(registered)}; another picture has more")
    found, asked = reconstruction.c2w[registered], commanded[registered]
    world_from_found = float(similarity(found, asked)[0])
    length = float((asked[1:, :3, 3] - asked[:-1, :3, 3]).norm(dim=-1).sum())
    scale = metric_scale(frames, reconstruction, depth, config or ScaleConfig())
    if scale is None:
        raise ValueError("frames: expected points whose metric depth agrees, got none; another picture has some")
    return WorldUnit(
        factor=scale.scale / world_from_found,
        spread=scale.spread,
        path_error=trajectory_errors(found, asked).trans_err / length,
    )
