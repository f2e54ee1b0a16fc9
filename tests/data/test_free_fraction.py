"""The share of a move that a solid camera gets through: known geometry, margins, moving things, exactness."""

import dataclasses

import numpy as np
import pytest
import torch

from model.data.synthetic.free_space import clearance, distance_to_surface, free_fraction
from model.data.synthetic.scene import Scene, sample_scene
from model.geometry import se3
from model.geometry.clearance import CAMERA_MARGIN

EMPTY = dataclasses.replace(sample_scene(0), objects=())


def at(x: float, y: float, z: float) -> torch.Tensor:
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def test_a_descent_ends_at_the_margin_above_the_ground() -> None:
    down = torch.tensor([0, 1.0, 0, 0, 0, 0])
    assert free_fraction(EMPTY, at(0, -1.0, 0), down, 0, 1 / 3, 0.35) == pytest.approx(0.65, abs=3e-3)
    assert free_fraction(EMPTY, at(0, -1.0, 0), down / 2, 0, 1 / 3, 0.35) == 1
    assert free_fraction(EMPTY, at(0, -0.1, 0), down / 2, 0, 1 / 3, 0.35) == 0  # too near already: no further
    assert free_fraction(EMPTY, at(0, -0.1, 0), -down, 0, 1 / 3, 0.35) == 1  # but away


def test_a_stopped_camera_can_slide_along_the_ground_and_turn() -> None:
    down = torch.tensor([0, 1.0, 0, 0, 0, 0])
    share = free_fraction(EMPTY, at(0, -1.0, 0), down, 0, 1 / 3, 0.35)
    stopped = at(0, -1.0 + share, 0)
    for move in ([0.5, 0, 0, 0, 0, 0], [0.1, 0, 0.6, 0, 0.2, 0], [0, 0, 0, 0.2, 0.2, 0.2]):
        assert free_fraction(EMPTY, stopped, torch.tensor(move), 0, 1 / 3, 0.35) == 1


def walk(
    scene: Scene, pose: torch.Tensor, twist: torch.Tensor, share: float, start: float
) -> tuple[torch.Tensor, float]:
    """The last pose of a cut move of a third of a second, and the least distance to a surface on the way."""
    tau = torch.linspace(0, 1, 33, dtype=torch.float64)
    poses = pose @ se3.exp(tau[:, None] * torch.cat([share * twist[:3], twist[3:]]).double())
    return poses[-1], float(distance_to_surface(scene, poses[:, :3, 3].numpy(), (start + tau / 3).numpy()).min())


@pytest.mark.parametrize("seed", range(4))
def test_cut_moves_keep_the_margin_and_are_cut_no_shorter_than_needed(seed: int) -> None:
    scene = sample_scene(seed)
    generator = torch.Generator().manual_seed(seed)
    pose, blocked = at(0, -scene.camera_height, 0).double(), 0
    for index in range(40):
        twist = (torch.rand(6, generator=generator) * 2 - 1) * torch.tensor([0.4, 0.3, 0.6, 0.1, 0.2, 0.1])
        twist[2] = twist[2].abs()
        start = index / 3
        share = free_fraction(scene, pose, twist, start, 1 / 3, CAMERA_MARGIN)
        reached, nearest = walk(scene, pose, twist, share, start)
        standing = walk(scene, pose, twist, 0.0, start)[1]
        # samples between those that were looked at: a sixteenth of a metre at most, seen from the side
        assert nearest > min(CAMERA_MARGIN, standing) - 5e-3
        if share < 1:
            blocked += 1
            assert walk(scene, pose, twist, min(1.0, share + 0.02), start)[1] < CAMERA_MARGIN + 2e-3 or share > 0.98
        pose = reached
    assert blocked or clearance(scene, pose[:3, 3].numpy()[None])[0] > CAMERA_MARGIN


def test_what_comes_nearer_by_itself_blocks_nothing() -> None:
    scene = next(s for s in map(sample_scene, range(50)) if any(item.motion is not None for item in s.objects))
    item = next(item for item in scene.objects if item.motion is not None)
    beside = at(item.x + item.swept_radius + 0.05, -scene.camera_height, item.z)
    for start in np.arange(0, 4, 0.5):
        assert free_fraction(scene, beside, torch.zeros(6), float(start), 1 / 3, CAMERA_MARGIN) == 1
