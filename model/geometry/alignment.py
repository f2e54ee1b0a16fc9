"""Comparing camera paths: Umeyama's similarity and the paper's TransErr and RotErr (Sec. 4.2)."""

from dataclasses import dataclass

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry import se3

# A path whose second principal extent (squared) is below this share of the first counts as straight.
_STRAIGHT_BELOW = 1e-3
_ORIENTATION_WEIGHT = 1e-2  # enough to settle the roll about a straight path, too little to turn its direction


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of a path after its alignment with the reference.

    Attributes:
        trans_err: Mean distance between the cameras' centres, in the reference's metres.
        rot_err: Mean angle between the cameras' orientations, in degrees.
        scale: Factor that the estimated path was multiplied by.
    """

    trans_err: float
    rot_err: float
    scale: float


def similarity(
    estimated: Float[Tensor, "f 4 4"], reference: Float[Tensor, "f 4 4"], with_scale: bool = True
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Returns the scale, rotation and translation that bring the estimated centres nearest to the reference's.

    A centre p goes to scale * R @ p + t; the scale is 1 without `with_scale`, and if all estimated centres coincide.
    In float64.

    Raises:
        ValueError: The numbers of poses differ, or a matrix is not a rigid motion.

    Source: S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991; ours:
    where the centres lie on a line or in one point, they do not determine the rotation; the orientations then do,
    because otherwise the RotErr of a straight dolly is arbitrary.
    """
    se3.check_poses("estimated", estimated)
    se3.check_poses("reference", reference)
    if len(estimated) != len(reference):
        raise ValueError(f"estimated: expected {len(reference)} poses as in the reference, got {len(estimated)}")
    estimated, reference = estimated.double(), reference.double()
    source, target = estimated[:, :3, 3], reference[:, :3, 3]
    centred = source - source.mean(dim=0)
    covariance = (target - target.mean(dim=0)).T @ centred / len(source)
    rotation = roma.special_procrustes(_determined(covariance, estimated, reference))
    scale, variance = source.new_ones(()), centred.square().sum(dim=-1).mean()
    if with_scale and variance > 0:
        scale = (rotation * covariance).sum() / variance  # trace(R^T C): the least-squares scale for this rotation
    return scale, rotation, target.mean(dim=0) - scale * rotation @ source.mean(dim=0)


def transform(
    c2w: Float[Tensor, "*batch 4 4"],
    scale: Float[Tensor, ""],
    rotation: Float[Tensor, "3 3"],
    translation: Float[Tensor, "3"],
) -> Float[Tensor, "*batch 4 4"]:
    """Returns the poses after a similarity of the world: centres are scale * R p + t, orientations turn by R."""
    centres = scale * (rotation @ c2w[..., :3, 3:])[..., 0] + translation
    return se3.from_rotation_translation(rotation @ c2w[..., :3, :3], centres)


def rotation_error_deg(
    c2w_a: Float[Tensor, "*#batch 4 4"], c2w_b: Float[Tensor, "*#batch 4 4"]
) -> Float[Tensor, "..."]:
    """Returns the angle between the orientations of two poses, in degrees."""
    return torch.rad2deg(se3.rotation_angle(c2w_a[..., :3, :3], c2w_b[..., :3, :3]))


def trajectory_errors(
    estimated: Float[Tensor, "f 4 4"], reference: Float[Tensor, "f 4 4"], with_scale: bool = True
) -> TrajectoryErrors:
    """Returns TransErr and RotErr after `similarity`; raises its errors.

    The scale is free by default, since structure from motion has none. A reference that stands still therefore
    shrinks the estimated path to a point (scale 0, TransErr 0): use with_scale=False where poses are metric.

    Source: the paper, Sec. 4.2.
    """
    scale, rotation, translation = similarity(estimated, reference, with_scale)
    aligned = transform(estimated.double(), scale, rotation, translation)
    distance = (aligned[:, :3, 3] - reference[:, :3, 3]).norm(dim=-1).mean()
    angle = rotation_error_deg(aligned, reference.double()).mean()
    return TrajectoryErrors(float(distance), float(angle), float(scale))


def _determined(covariance: Tensor, estimated: Tensor, reference: Tensor) -> Tensor:
    """Returns a matrix whose nearest rotation is the alignment, with orientations where centres do not suffice."""
    extents = torch.linalg.svdvals(covariance)
    if extents[1] > _STRAIGHT_BELOW * extents[0]:
        return covariance
    orientations = (reference[:, :3, :3] @ estimated[:, :3, :3].transpose(-1, -2)).mean(dim=0)
    if extents[0] < 1e-12:  # square metres: at least one path stands still
        return orientations
    return covariance / extents[0] + _ORIENTATION_WEIGHT * orientations
