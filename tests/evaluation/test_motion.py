"""Strength of motion where it is known; needs the optional extra `evaluation`."""

import pytest
import torch

pytest.importorskip("cv2")

from model.evaluation.motion import camera_flow, measure_motion, optical_flow
from model.evaluation.truth import SceneTruth
from model.geometry import primitives
from model.geometry.camera import default_intrinsics


@pytest.fixture(scope="module")
def truth() -> SceneTruth:
    return SceneTruth.of_seed(500_000, default_intrinsics(), 48, 80)


def test_flow_of_a_known_shift() -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 20), (48, 80), mode="bicubic").clamp(0, 1)
    frame = (smooth[0].movedim(0, -1) * 255).byte()
    flow = optical_flow(frame, frame.roll((1, 2), dims=(0, 1)))[8:-8, 8:-8]
    assert torch.allclose(flow.mean(dim=(0, 1)), torch.tensor([2.0, 1.0]), atol=0.2)


def test_flow_of_the_camera_is_that_of_the_geometry() -> None:
    lens = torch.tensor([0.5, 0.5, 0.5, 0.5])  # at 2 m, 16 pixels are 4 m: a step of 0.5 m to the right is 2 pixels
    c2w = primitives.truck(0.5, 2).c2w
    flow = camera_flow(torch.full((8, 16), 2.0), c2w[0], c2w[1], lens)
    assert torch.allclose(flow, torch.tensor([-2.0, 0.0]).expand(8, 16, 2), atol=1e-4)


def test_a_frozen_world_hardly_moves_and_the_true_one_moves_as_itself(truth: SceneTruth) -> None:
    poses = torch.eye(4).expand(1, 17, 4, 4)
    true = truth.clip(poses[0], torch.arange(17) / 12).frames[None]
    same = measure_motion([truth], true, poses, 16).summary()
    assert same["ratio"] == pytest.approx(1)
    assert same["ratio_frozen"] == pytest.approx(0, abs=0.02)
    frozen = measure_motion([truth], true[:, :1].expand_as(true), poses, 16).summary()
    assert frozen["ratio"] == pytest.approx(0, abs=0.02)
