"""Plucker maps: a pixel by hand, ray geometry, and independence of how a path is cut into segments."""

import pytest
import torch

from model.geometry import camera, se3
from model.geometry.plucker import plucker_map
from model.geometry.trajectory import CameraTrajectory

INTRINSICS = torch.tensor([0.8, 1.3, 0.45, 0.55])


def test_a_pixel_computed_by_hand() -> None:
    # A camera at (1, 2, 3) turned 90 degrees to the right: its x is the world's -z, its z the world's x.
    c2w = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]])
    # Two by two pixels, focal length half the image: pixel (x=1, y=0) has the camera ray (0.5, -0.5, 1) / sqrt(1.5).
    plucker = plucker_map(c2w[None, None], torch.tensor([[0.5, 0.5, 0.5, 0.5]]), 2, 2)
    length = 1.5**0.5
    d = torch.tensor([1.0, -0.5, -0.5]) / length
    # (1, 2, 3) x (1, -0.5, -0.5) = (2*-0.5 - 3*-0.5, 3*1 - 1*-0.5, 1*-0.5 - 2*1) = (0.5, 3.5, -2.5)
    moment = torch.tensor([0.5, 3.5, -2.5]) / length
    torch.testing.assert_close(plucker[0, 0, :, 0, 1], torch.cat((moment, d)))


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 3), (3, 2), (2, 3)])
def test_maps_are_rays_whatever_axis_has_three_entries(batch: int, frames: int) -> None:
    c2w = se3.exp(torch.randn(batch, frames, 6))
    plucker = plucker_map(c2w, INTRINSICS.expand(batch, 4), 3, 5)
    for b in range(batch):
        for f in range(frames):
            origins, directions = camera.rays(c2w[b, f], INTRINSICS, 3, 5)
            moment = torch.linalg.cross(origins, directions, dim=-1)
            expected = torch.cat((moment, directions), dim=-1).movedim(-1, 0)
            torch.testing.assert_close(plucker[b, f], expected)


def test_one_camera_per_clip_is_the_same_camera_in_every_frame() -> None:
    c2w, intrinsics = se3.exp(torch.randn(2, 3, 6)), INTRINSICS + 0.1 * torch.rand(2, 4)
    per_frame = plucker_map(c2w, intrinsics[:, None].expand(2, 3, 4), 6, 10)
    torch.testing.assert_close(plucker_map(c2w, intrinsics, 6, 10), per_frame)


def test_moving_along_a_ray_changes_nothing() -> None:
    c2w = se3.exp(torch.randn(1, 1, 6, dtype=torch.float64))
    ahead = c2w @ se3.exp(torch.tensor([0, 0, 2, 0, 0, 0], dtype=torch.float64))
    intrinsics = torch.tensor([[0.8, 0.8, 0.5, 0.5]], dtype=torch.float64)
    centre = [plucker_map(pose, intrinsics, 3, 3)[..., 1, 1] for pose in (c2w, ahead)]
    torch.testing.assert_close(*centre)


def test_a_segment_of_t_poses_equals_k_segments_in_one_world() -> None:
    twists = 0.3 * torch.randn(12, 6)
    whole = CameraTrajectory.from_twists(torch.eye(4), twists, INTRINSICS)
    parts, start = [], torch.eye(4)
    for some in twists.split(4):
        part = CameraTrajectory.from_twists(start, some, INTRINSICS)
        parts.append(part.c2w[1:])
        start = part.c2w[-1]
    maps = [plucker_map(poses[None], INTRINSICS[None], 6, 10) for poses in parts]
    expected = plucker_map(whole.c2w[None, 1:], INTRINSICS[None], 6, 10)
    # float32 poses are rounded once more at each joint
    torch.testing.assert_close(torch.cat(maps, dim=1), expected, rtol=0, atol=1e-5)


def test_gradients_reach_the_pose() -> None:
    twist = torch.zeros(1, 2, 6, requires_grad=True)
    plucker_map(se3.exp(twist), INTRINSICS[None], 3, 5).square().sum().backward()
    assert twist.grad is not None and torch.isfinite(twist.grad).all()
