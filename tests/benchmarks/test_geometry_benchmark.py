"""Geometry in the hot path: the Plucker maps of one generated clip, and the poses of its frames."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.geometry import se3
from model.geometry.camera import default_intrinsics
from model.geometry.plucker import plucker_map
from model.geometry.trajectory import CameraTrajectory


@pytest.mark.parametrize(("batch", "poses"), [(1, 9), (16, 9)])
def test_plucker_map_at_the_tiny_worlds_size(benchmark: BenchmarkFixture, batch: int, poses: int) -> None:
    c2w, intrinsics = se3.exp(0.1 * torch.randn(batch, poses, 6)), default_intrinsics().expand(batch, 4)
    assert benchmark(plucker_map, c2w, intrinsics, 6, 10).shape == (batch, poses, 6, 6, 10)


def test_poses_of_every_frame_of_a_step(benchmark: BenchmarkFixture) -> None:
    twists = 0.1 * torch.randn(4, 6)

    def step() -> CameraTrajectory:
        return CameraTrajectory.from_twists(torch.eye(4), twists, default_intrinsics()).upsample()

    assert len(benchmark(step)) == 17
