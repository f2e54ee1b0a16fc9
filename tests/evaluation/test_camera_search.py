"""The camera is found again where it was, and failures say so."""

import math

import pytest
import torch

from model.evaluation.camera_accuracy import measure_camera
from model.evaluation.camera_search import find_pose
from model.evaluation.truth import SceneTruth
from model.geometry import primitives, se3
from model.geometry.camera import default_intrinsics

# some times what is usual in this scene; where a step aside looks much like a turn, the floor is ten times as high
FLOOR_DEGREES, FLOOR_METRES = 0.05, 0.005


@pytest.fixture(scope="module")
def truth() -> SceneTruth:
    return SceneTruth.of_seed(500_004, default_intrinsics(), 48, 80)


def errors(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Degrees and metres."""
    off = se3.log(se3.relative(true, found))
    return math.degrees(float(off[3:].norm())), float(off[:3].norm())


OFFSETS = [
    torch.tensor([0.05, 0, 0, 0, 0, 0]),
    torch.tensor([0, 0, 0, 0, math.radians(1), 0]),
    torch.tensor([0.03, -0.02, 0.03, math.radians(0.6), 0, math.radians(-0.8)]),
]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_planted_offset_is_recovered(truth: SceneTruth, offset: torch.Tensor) -> None:
    # the frame is seen from `offset`, the search starts at the identity
    true = se3.exp(offset)
    frame = truth.clip(true[None], torch.zeros(1)).frames[0]
    usable = ~truth.disturbed(true[None], torch.zeros(1))[0]
    found = find_pose(truth, frame, usable, torch.eye(4)[None])
    degrees, metres = errors(found.c2w, true)
    assert found.verdict == "solved"
    assert degrees < FLOOR_DEGREES
    assert metres < FLOOR_METRES


def test_colours_that_drift_do_not_move_the_camera(truth: SceneTruth) -> None:
    true = se3.exp(OFFSETS[2])
    frame = truth.clip(true[None], torch.zeros(1)).frames[0]
    faded = (frame.float() * 0.92 + 8).round().byte()
    usable = ~truth.disturbed(true[None], torch.zeros(1))[0]
    degrees, metres = errors(find_pose(truth, faded, usable, torch.eye(4)[None]).c2w, true)
    assert degrees < FLOOR_DEGREES
    assert metres < FLOOR_METRES


def test_failures_are_named_and_counted(truth: SceneTruth) -> None:
    noise = torch.randint(0, 256, (48, 80, 3), dtype=torch.uint8)
    everything = torch.ones(48, 80, dtype=torch.bool)
    assert not find_pose(truth, noise, everything, torch.eye(4)[None]).is_solved
    assert find_pose(truth, noise, ~everything, torch.eye(4)[None]).verdict == "unseen"

    path = primitives.pan(math.radians(100), 5).upsample(4)
    frames = truth.clip(path.c2w, torch.arange(17) / 12).frames
    summary = measure_camera([truth], frames[None], path.c2w[None], every=16).summary()
    assert summary["frames"] == summary["unseen"] == 1
    assert summary["rot_err_deg"] is None


def test_usable_pixels_too_scattered_to_be_blurred_are_too_few(truth: SceneTruth) -> None:
    frame = truth.static_frames(torch.eye(4)[None])[0]
    scattered = torch.zeros(48, 80, dtype=torch.bool)
    scattered[::3, ::3] = True
    assert find_pose(truth, frame, scattered, torch.eye(4)[None]).verdict == "unseen"


def test_a_camera_that_stands_still_is_caught(truth: SceneTruth) -> None:
    path = primitives.dolly(0.4, 2).upsample(4)
    held = truth.clip(torch.eye(4)[None], torch.zeros(1)).frames.expand(5, 48, 80, 3)
    summary = measure_camera([truth], held[None], path.c2w[None]).summary()
    assert summary["solved"] == 1
    assert summary["trans_err_m"] == pytest.approx(0.4, abs=0.05)
    assert summary["followed"] == pytest.approx(0, abs=0.1)
