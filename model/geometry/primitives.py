"""Named camera moves. Each returns a path of num_poses poses that starts at the identity.

Distances are in metres, angles in radians, and a negative one moves the other way. All are
constant twists: even speed, and every piece of the move is the same move, shorter.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry.camera import default_intrinsics
from model.geometry.trajectory import CameraTrajectory

Intrinsics = Float[Tensor, "4"]


def dolly(distance: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a move forward, along the optical axis."""
    return _constant_twist((0.0, 0.0, distance, 0.0, 0.0, 0.0), num_poses, intrinsics)


def truck(distance: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a move to the right, looking ahead."""
    return _constant_twist((distance, 0.0, 0.0, 0.0, 0.0, 0.0), num_poses, intrinsics)


def pedestal(distance: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a move up, looking ahead."""
    return _constant_twist((0.0, -distance, 0.0, 0.0, 0.0, 0.0), num_poses, intrinsics)


def pan(angle: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a turn to the right, on the spot."""
    return _constant_twist((0.0, 0.0, 0.0, 0.0, angle, 0.0), num_poses, intrinsics)


def tilt(angle: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a turn up, on the spot."""
    return _constant_twist((0.0, 0.0, 0.0, angle, 0.0, 0.0), num_poses, intrinsics)


def roll(angle: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a turn about the optical axis, clockwise as the camera sees it: its right side sinks."""
    return _constant_twist((0.0, 0.0, 0.0, 0.0, 0.0, angle), num_poses, intrinsics)


def orbit(angle: float, radius: float, num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a circle about the point radius metres ahead, which stays in the image's centre; first to the right."""
    return _constant_twist((angle * radius, 0.0, 0.0, 0.0, -angle, 0.0), num_poses, intrinsics)


def hold_still(num_poses: int, intrinsics: Intrinsics | None = None) -> CameraTrajectory:
    """Returns a camera that does not move, for num_poses >= 1 poses."""
    return _with_intrinsics(torch.eye(4).expand(num_poses, 4, 4), intrinsics)


def _constant_twist(twist: tuple[float, ...], num_poses: int, intrinsics: Tensor | None) -> CameraTrajectory:
    _check_num_poses(num_poses)
    step = torch.tensor(twist, dtype=torch.float64) / (num_poses - 1)
    start = torch.eye(4, dtype=torch.float64)
    path = CameraTrajectory.from_twists(start, step.expand(num_poses - 1, 6), default_intrinsics())
    return _with_intrinsics(path.c2w, intrinsics)


def _with_intrinsics(c2w: Tensor, intrinsics: Tensor | None) -> CameraTrajectory:
    """Returns the float32 path seen by one camera, on that camera's device."""
    intrinsics = default_intrinsics() if intrinsics is None else intrinsics
    return CameraTrajectory(c2w.to(intrinsics), intrinsics.expand(len(c2w), 4))


def _check_num_poses(num_poses: int) -> None:
    if num_poses < 2:
        raise ValueError(f"num_poses: expected at least 2, for a move needs a start and an end, got {num_poses}")
