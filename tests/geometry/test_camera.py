"""The pinhole: known pixels, and projection against rays."""

import math

import pytest
import torch

from model.geometry import camera, se3

INTRINSICS = torch.tensor([0.8, 1.3, 0.45, 0.55])


def test_a_field_of_view_of_90_degrees_has_half_the_width_as_focal_length() -> None:
    fx, fy, cx, cy = camera.intrinsics_from_fov(math.pi / 2, 48, 80).tolist()
    assert (fx, fy, cx, cy) == pytest.approx((0.5, 0.5 * 80 / 48, 0.5, 0.5))  # square pixels: fx*80 == fy*48
    torch.testing.assert_close(camera.default_intrinsics(), camera.intrinsics_from_fov(math.radians(75), 48, 80))
    with pytest.raises(ValueError, match=r"^horizontal_fov: "):
        camera.intrinsics_from_fov(75.0, 48, 80)


def test_pixel_centres_lie_half_a_pixel_in() -> None:
    grid = camera.pixel_grid(2, 4)
    torch.testing.assert_close(grid[0, 0], torch.tensor([0.125, 0.25]))
    torch.testing.assert_close(grid[1, 3], torch.tensor([0.875, 0.75]))


def test_points_right_of_and_below_the_axis_project_right_and_below() -> None:
    uv, depth = camera.project(torch.tensor([1.0, 2.0, 4.0]), torch.eye(4), INTRINSICS)
    torch.testing.assert_close(uv, torch.tensor([0.45 + 0.8 / 4, 0.55 + 1.3 / 2]))
    assert depth == 4
    _, behind = camera.project(torch.tensor([0.0, 0.0, -1.0]), torch.eye(4), INTRINSICS)
    assert behind == -1


def test_unproject_undoes_project_and_broadcasts() -> None:
    c2w = se3.exp(torch.randn(3, 1, 6, dtype=torch.float64))
    uv, depth = torch.rand(3, 7, 2, dtype=torch.float64), 1 + torch.rand(3, 7, dtype=torch.float64)
    points = camera.unproject(uv, depth, c2w, INTRINSICS.double())
    again = camera.project(points, c2w, INTRINSICS.double())
    torch.testing.assert_close(again, (uv, depth))


def test_rays_are_unit_and_pass_through_what_their_pixels_see() -> None:
    c2w = se3.exp(torch.randn(3, 2, 6, dtype=torch.float64))
    intrinsics = INTRINSICS.double()
    origins, directions = camera.rays(c2w, intrinsics, 4, 3)
    assert origins.shape == directions.shape == (3, 2, 4, 3, 3)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, 2, 4, 3, dtype=torch.float64))
    uv, depth = camera.project(origins + 2.5 * directions, c2w[:, :, None, None], intrinsics)
    torch.testing.assert_close(uv, camera.pixel_grid(4, 3, dtype=torch.float64).expand_as(uv))
    assert (depth > 0).all()


def test_projection_matrices_put_world_points_where_project_does() -> None:
    generator = torch.Generator().manual_seed(0)
    c2w = se3.exp(0.2 * torch.randn(2, 3, 6, generator=generator))
    intrinsics = torch.tensor([[0.65, 1.1, 0.5, 0.5], [0.8, 0.9, 0.45, 0.55]])
    points = torch.tensor([0.3, -0.2, 6.0])
    matrices = camera.projection_matrix(c2w, intrinsics)
    in_last = se3.inverse(c2w[:, -1]) @ torch.cat([points, torch.ones(1)])
    in_last[:, :3] /= 2.0
    image = (matrices @ in_last[:, None, :, None])[..., 0]
    uv, depth = camera.project(points, c2w, intrinsics[:, None])
    torch.testing.assert_close(image[..., :2] / image[..., 2:3] + 0.5, uv)
    torch.testing.assert_close(2.0 * image[..., 2], depth)
