"""Rigid motions: exponential, logarithm, inverse and geodesics of SE(3), differentiable and batched.

Rotations use `roma`; the translation's part (the left Jacobian of SO(3)) is ours.
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor

# Below this squared angle the Taylor series take over: there the closed forms lose digits to
# cancellation, and six terms leave less than 1e-15.
_SERIES_BELOW = 0.25
_TOLERANCE = 5e-3  # of R^T R against the identity: files may carry rotations rounded to three decimals


def exp(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
    """Returns the rigid motion of a twist (v, w): the rotation of w, and the translation V(w) v.

    A constant twist moves the camera along a screw, so `exp(a * x) @ exp(b * x) == exp((a + b) * x)`.

    Source: ours, because an action is the true exponential of SE(3) (not v beside exp(w)).
    """
    v, w = twist.split(3, dim=-1)
    b, c = _left_jacobian_coefficients(w)
    w_cross_v = torch.linalg.cross(w, v, dim=-1)
    translation = v + b * w_cross_v + c * torch.linalg.cross(w, w_cross_v, dim=-1)
    return from_rotation_translation(roma.rotvec_to_rotmat(w), translation)


def log(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 6"]:
    """Returns the twist (v, w) with |w| <= pi whose `exp` is the pose."""
    w = roma.rotmat_to_rotvec(pose[..., :3, :3])
    translation = pose[..., :3, 3]
    w_cross_t = torch.linalg.cross(w, translation, dim=-1)
    v = translation - 0.5 * w_cross_t + _inverse_jacobian_coefficient(w) * torch.linalg.cross(w, w_cross_t, dim=-1)
    return torch.cat((v, w), dim=-1)


def inverse(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Returns the inverse motion, from the transposed rotation (no linear solve)."""
    rotation = pose[..., :3, :3].transpose(-1, -2)
    return from_rotation_translation(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def relative(reference: Float[Tensor, "*#batch 4 4"], pose: Float[Tensor, "*#batch 4 4"]) -> Float[Tensor, "... 4 4"]:
    """Returns the pose in the reference's frame, `inverse(reference) @ pose`."""
    return inverse(reference) @ pose


def interpolate(
    start: Float[Tensor, "*#batch 4 4"],
    end: Float[Tensor, "*#batch 4 4"],
    fraction: float | Float[Tensor, "*#batch"],
) -> Float[Tensor, "... 4 4"]:
    """Returns the pose at a fraction of the geodesic (screw motion) from start (0) to end (1).

    Source: ours, because a linear mix of matrices leaves SO(3).
    """
    twist = log(relative(start, end))
    if isinstance(fraction, Tensor):
        fraction = fraction[..., None]
    return start @ exp(fraction * twist)


def from_rotation_translation(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Returns the 4x4 pose with this rotation and translation."""
    top = torch.cat((rotation, translation[..., None]), dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat((top, bottom), dim=-2)


def rotation_angle(
    rotation_a: Float[Tensor, "*#batch 3 3"], rotation_b: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "..."]:
    """Returns the angle in radians, in [0, pi], between two rotations; exact for tiny angles, unlike arccos."""
    return torch.linalg.vector_norm(roma.rotmat_to_rotvec(rotation_a.transpose(-1, -2) @ rotation_b), dim=-1)


def check_poses(name: str, c2w: Tensor) -> None:
    """Checks that every matrix is a rigid motion.

    Raises:
        ValueError: The shape is not [..., 4, 4], a number is not finite, the last row is not 0 0 0 1, or
            the upper left block is not a rotation; the message starts with the name.
    """
    if c2w.shape[-2:] != (4, 4):
        raise ValueError(f"{name}: expected poses of shape [..., 4, 4], got {list(c2w.shape)}")
    if not torch.isfinite(c2w).all():
        raise ValueError(f"{name}: expected finite poses, got NaN or infinity")
    last_row = c2w[..., 3, :]
    if ((last_row - last_row.new_tensor([0, 0, 0, 1])).abs() > 1e-5).any():
        raise ValueError(f"{name}: expected poses whose last row is 0 0 0 1, got {last_row.reshape(-1, 4)[0].tolist()}")
    rotation = c2w[..., :3, :3].double()
    error = (rotation.transpose(-1, -2) @ rotation - torch.eye(3, dtype=torch.float64, device=c2w.device)).abs()
    if error.numel() and error.max() > _TOLERANCE:
        raise ValueError(
            f"{name}: expected rotations (R^T R = identity within {_TOLERANCE}), got an error of {error.max():.3g}; "
            "take scale and shear out of the matrices"
        )
    if (torch.linalg.det(rotation) < 0).any():
        raise ValueError(f"{name}: expected rotations of determinant +1, got a reflection; use right-handed axes")


def _left_jacobian_coefficients(
    w: Float[Tensor, "*batch 3"],
) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Returns (1 - cos a) / a^2 and (a - sin a) / a^3 of the angle a = |w|."""
    squared, is_small, angle = _angle(w)
    b = _polynomial(squared, (1 / 2, -1 / 24, 1 / 720, -1 / 40320, 1 / 3628800, -1 / 479001600))
    c = _polynomial(squared, (1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800, -1 / 6227020800))
    b = torch.where(is_small, b, (1 - torch.cos(angle)) / angle**2)
    c = torch.where(is_small, c, (angle - torch.sin(angle)) / angle**3)
    return b, c


def _inverse_jacobian_coefficient(w: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
    """Returns (1 - a/2 cot(a/2)) / a^2 of the angle a = |w|, smooth up to and beyond pi."""
    squared, is_small, angle = _angle(w)
    series = _polynomial(squared, (1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000))
    half = angle / 2
    return torch.where(is_small, series, (1 - half * torch.cos(half) / torch.sin(half)) / angle**2)


def _angle(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the squared angle, whether the series are used, and the angle (1 if they are: no NaN in gradients)."""
    squared = w.square().sum(dim=-1, keepdim=True)
    is_small = squared < _SERIES_BELOW
    return squared, is_small, torch.where(is_small, torch.ones_like(squared), squared).sqrt()


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Returns the polynomial in x, lowest power first, by Horner's rule."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
