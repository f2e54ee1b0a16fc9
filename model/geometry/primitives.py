"""Named camera moves. Each returns a path of num_poses poses that starts at the identity, seen by the default camera.

Distances are in metres, angles in radians; a negative value moves the other way. All are
constant twists: the speed is even, and every part of a move is the same move, shorter.
"""

import torch

from model.geometry.camera import default_intrinsics
from model.geometry.trajectory import CameraTrajectory


def dolly(distance: float, num_poses: int) -> CameraTrajectory:
    """Returns a move forward, along the optical axis."""
    return _constant_twist((0.0, 0.0, distance, 0.0, 0.0, 0.0), num_poses)


def truck(distance: float, num_poses: int) -> CameraTrajectory:
    """Returns a move to the right, looking ahead."""
    return _constant_twist((distance, 0.0, 0.0, 0.0, 0.0, 0.0), num_poses)


def pedestal(distance: float, num_poses: int) -> CameraTrajectory:
    """Returns a move up, looking ahead."""
    return _constant_twist((0.0, -distance, 0.0, 0.0, 0.0, 0.0), num_poses)


def pan(angle: float, num_poses: int) -> CameraTrajectory:
    """Returns a turn to the right, on the spot."""
    return _constant_twist((0.0, 0.0, 0.0, 0.0, angle, 0.0), num_poses)


def tilt(angle: float, num_poses: int) -> CameraTrajectory:
    """Returns a turn up, on the spot."""
    return _constant_twist((0.0, 0.0, 0.0, angle, 0.0, 0.0), num_poses)


def roll(angle: float, num_poses: int) -> CameraTrajectory:
    """Returns a turn about the optical axis, clockwise as the camera sees it: its right side sinks."""
    return _constant_twist((0.0, 0.0, 0.0, 0.0, 0.0, angle), num_poses)


def orbit(angle: float, radius: float, num_poses: int) -> CameraTrajectory:
    """Returns a circle about the point radius metres ahead, which stays in the image's centre; it starts rightward."""
    return _constant_twist((angle * radius, 0.0, 0.0, 0.0, -angle, 0.0), num_poses)


def hold_still(num_poses: int) -> CameraTrajectory:
    """Returns a camera that does not move, for num_poses >= 1 poses."""
    return CameraTrajectory(torch.eye(4).expand(num_poses, 4, 4), default_intrinsics().expand(num_poses, 4))


def _constant_twist(twist: tuple[float, ...], num_poses: int) -> CameraTrajectory:
    if num_poses < 2:
        raise ValueError(f"num_poses: expected at least 2, for a move needs a start and an end, got {num_poses}")
    step = torch.tensor(twist, dtype=torch.float64) / (num_poses - 1)
    return CameraTrajectory.from_twists(torch.eye(4), step.expand(num_poses - 1, 6), default_intrinsics())
