"""SE(3): round trips, group laws, limits, and torch.linalg.matrix_exp as a second implementation."""

import math

import pytest
import torch
from torch import Tensor

from model.geometry import se3

ANGLES = [0.0, 1e-12, 1e-7, 1e-4, 0.1, 0.4999, 0.5001, 1.0, 3.0, math.pi - 1e-4, math.pi - 1e-7]


def twists(angle: float, n: int = 16) -> Tensor:
    v, axis = torch.randn(2, n, 3, dtype=torch.float64)
    return torch.cat((v, angle * torch.nn.functional.normalize(axis, dim=-1)), dim=-1)


def generator(twist: Tensor) -> Tensor:
    """The 4x4 matrix of the Lie algebra, written out entry by entry."""
    vx, vy, vz, wx, wy, wz = twist.unbind(-1)
    zero = torch.zeros_like(vx)
    rows = (zero, -wz, wy, vx, wz, zero, -wx, vy, -wy, wx, zero, vz, zero, zero, zero, zero)
    return torch.stack(rows, dim=-1).unflatten(-1, (4, 4))


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_is_the_matrix_exponential_and_log_undoes_it(angle: float) -> None:
    twist = twists(angle)
    pose = se3.exp(twist)
    # roma's rotation is first order below 1e-6 rad: an error of at most angle^2 / 2
    torch.testing.assert_close(pose, torch.linalg.matrix_exp(generator(twist)), rtol=0, atol=1e-12)
    # near pi the axis comes from a quaternion whose real part is ~0: well conditioned, no digits lost
    torch.testing.assert_close(se3.log(pose), twist, rtol=0, atol=1e-11)


def test_log_at_exactly_pi_gives_a_twist_of_that_pose() -> None:
    pose = se3.exp(twists(math.pi))
    torch.testing.assert_close(se3.exp(se3.log(pose)), pose, rtol=0, atol=1e-11)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.5, 3.0])
def test_float32_round_trip_and_finite_gradients(angle: float) -> None:
    twist = twists(angle).float().requires_grad_()
    again = se3.log(se3.exp(twist))
    torch.testing.assert_close(again, twist, rtol=0, atol=2e-5)
    (jacobian,) = torch.autograd.grad(again.sum(), twist)
    torch.testing.assert_close(jacobian, torch.ones_like(jacobian), rtol=0, atol=1e-3)


def test_a_twist_repeated_is_the_twist_of_the_sum() -> None:
    twist = twists(1.3)
    torch.testing.assert_close(se3.exp(0.3 * twist) @ se3.exp(0.7 * twist), se3.exp(twist))


def test_inverse_and_relative() -> None:
    a, b = se3.exp(twists(1.0)), se3.exp(twists(2.0))
    torch.testing.assert_close(a @ se3.inverse(a), torch.eye(4, dtype=torch.float64).expand_as(a))
    torch.testing.assert_close(a @ se3.relative(a, b), b)
    torch.testing.assert_close(se3.relative(a[0], b), torch.linalg.solve(a[0], b))


def test_interpolation_ends_where_it_should_and_stays_rigid() -> None:
    a, b = se3.exp(twists(1.0)), se3.exp(twists(2.5))
    torch.testing.assert_close(se3.interpolate(a, b, 0.0), a)
    torch.testing.assert_close(se3.interpolate(a, b, 1.0), b)
    fractions = torch.linspace(0, 1, 16, dtype=torch.float64)
    for fraction in (0.25, fractions):
        se3.check_poses("interpolated", se3.interpolate(a, b, fraction))
    half = se3.interpolate(a, b, 0.5)
    torch.testing.assert_close(se3.relative(a, half), se3.relative(half, b))  # the same screw twice


def test_rotation_angle_of_known_rotations_down_to_tiny_ones() -> None:
    for angle in (1e-9, 0.3, math.pi):
        rotation = se3.exp(torch.tensor([0, 0, 0, 0, angle, 0], dtype=torch.float64))[:3, :3]
        measured = se3.rotation_angle(torch.eye(3, dtype=torch.float64), rotation)
        torch.testing.assert_close(measured, torch.tensor(angle, dtype=torch.float64))


def test_batches_broadcast() -> None:
    a, b = se3.exp(torch.randn(6)), se3.exp(torch.randn(2, 3, 6))
    assert se3.relative(a, b).shape == se3.relative(b, a).shape == (2, 3, 4, 4)
    assert se3.interpolate(a, b, torch.rand(3)).shape == (2, 3, 4, 4)
    assert se3.log(se3.exp(torch.zeros(0, 6))).shape == (0, 6)


def broken(kind: str) -> Tensor:
    pose = torch.eye(4).repeat(2, 1, 1)
    match kind:
        case "finite":
            pose[1, 0, 3] = float("nan")
        case "last row":
            pose[1, 3, 0] = 1
        case "R\\^T R":
            pose[1, :3, :3] *= 1.1
        case "reflection":
            pose[1, 0, 0] = -1
        case "shape":
            pose = pose[:, :3]
    return pose


@pytest.mark.parametrize("kind", ["finite", "last row", "R\\^T R", "reflection", "shape"])
def test_check_poses_names_the_argument_and_the_fault(kind: str) -> None:
    with pytest.raises(ValueError, match=f"^start: expected .*{kind}"):
        se3.check_poses("start", broken(kind))
