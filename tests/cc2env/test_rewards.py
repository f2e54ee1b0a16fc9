"""Rewards are functions with known answers: distances, frusta, coverage, pictures."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cc2env import rewards
from model.geometry import se3
from model.geometry.camera import default_intrinsics

CAMERA = default_intrinsics().numpy()
HOME = np.eye(4, dtype=np.float32)
twists = st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6)


def pose(*twist):
    return se3.exp(torch.tensor(twist, dtype=torch.float32)).numpy()


@settings(max_examples=30, deadline=None)
@given(twists, twists)
def test_the_pose_distance_is_a_metric_that_the_geometry_agrees_with(a, b):
    first, second = pose(*a), pose(*b)
    angle = float(se3.rotation_angle(torch.from_numpy(first[:3, :3]), torch.from_numpy(second[:3, :3])))
    assert rewards.rotation_angle(first, second) == pytest.approx(angle, abs=1e-5)
    forth, back = rewards.pose_distance(first, second, 0.5), rewards.pose_distance(second, first, 0.5)
    assert forth == back >= 0
    assert rewards.pose_distance(first, first) == 0
    around = rewards.pose_distance(first, HOME, 0.5) + rewards.pose_distance(HOME, second, 0.5)
    assert forth <= around + 1e-5


def test_distances_are_metres_and_radians():
    there = pose(0, 0, 2.0, 0, 0, 0)
    turned = pose(0, 0, 0, 0, 0.3, 0)
    assert rewards.distance_between(HOME, there) == pytest.approx(2)
    assert rewards.pose_distance(HOME, turned, 2.0) == pytest.approx(0.6, abs=1e-6)
    assert rewards.rotation_angle(HOME, pose(0, 0, 0, 0, np.pi, 0)) == pytest.approx(np.pi, abs=1e-3)


def test_progress_adds_up_to_what_the_ends_say():
    goal, way = pose(0.5, 0, 1, 0, 0.4, 0), [HOME, pose(0, 0, 3, 0, 0, 0), pose(1, 1, 1, 1, 0, 0), HOME]
    assert sum(rewards.progress(a, b, goal) for a, b in pairwise(way)) == pytest.approx(0, abs=1e-6)
    assert rewards.progress(HOME, goal, goal) == pytest.approx(rewards.pose_distance(HOME, goal))


def test_lengths_and_motions_follow_every_pose():
    there_and_back = np.stack([pose(0, 0, 1.0, 0, 0.2, 0), HOME])
    step = rewards.distance_between(there_and_back[0], HOME)
    assert rewards.path_length(HOME, there_and_back) == pytest.approx(2 * step)
    assert rewards.camera_motion(HOME, there_and_back, 3.0) == pytest.approx(2 * step + 3 * 0.4, abs=1e-5)
    assert rewards.camera_motion(HOME, np.stack([HOME, HOME])) == 0
    assert rewards.path_error(there_and_back, there_and_back) == 0
    assert rewards.path_error(there_and_back, np.stack([HOME, HOME]), 0.0) == pytest.approx(step / 2)


def test_the_view_has_the_volume_of_its_frustum():
    seen = rewards.view_voxels(HOME[None], CAMERA, reach=4.0, voxel=0.1)
    across, down = 4.0 / CAMERA[0], 4.0 / CAMERA[1]
    assert len(seen) * 0.1**3 == pytest.approx(across * down * 4.0 / 3, rel=0.02)
    centres = (seen + 0.5) * 0.1
    assert centres[:, 2].min() > 0 and centres[:, 2].max() <= 4
    assert len(np.unique(seen, axis=0)) == len(seen)


def test_the_view_turns_and_moves_with_the_camera():
    ahead = rewards.view_voxels(HOME[None], CAMERA, 3.0, 0.5)
    shifted = rewards.view_voxels(pose(0.5, 1.0, -1.5, 0, 0, 0)[None], CAMERA, 3.0, 0.5)
    assert {tuple(i) for i in ahead + np.array([1, 2, -3])} == {tuple(i) for i in shifted}
    behind = pose(0, 0, 0, 0, np.pi, 0)
    assert (rewards.view_voxels(behind[None], CAMERA, 3.0, 0.5)[:, 2] < 0).all()


def test_several_poses_see_the_union():
    poses = np.stack([HOME, pose(0, 0, 0.6, 0, 0.2, 0)])
    apart = [{tuple(i) for i in rewards.view_voxels(p[None], CAMERA, 2.0, 0.5)} for p in poses]
    assert {tuple(i) for i in rewards.view_voxels(poses, CAMERA, 2.0, 0.5)} == apart[0] | apart[1]


def test_what_is_covered_counts_once_and_outside_never():
    nothing = np.zeros((16, 8, 16), bool)
    seen = rewards.view_voxels(HOME[None], CAMERA, 2.0, 0.5)
    covered, count = rewards.newly_covered(nothing, seen)
    assert count == len(seen) == covered.sum() and not nothing.any()
    assert rewards.newly_covered(covered, seen)[1] == 0
    assert rewards.newly_covered(nothing, seen + 100)[1] == 0


def test_coverage_is_per_metre_and_turning_counts_the_shortest():
    assert rewards.coverage_per_metre(6.0, 2.0) == 3 and rewards.coverage_per_metre(6.0, 0.0, shortest=1.5) == 4


def test_similarity_is_one_for_the_same_and_falls_with_noise():
    generator = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 150, 24), np.linspace(0, 100, 32))[..., None].repeat(3, -1)
    picture = smooth.astype(np.uint8)
    noisy = [np.clip(smooth + generator.normal(0, s, smooth.shape), 0, 255).astype(np.uint8) for s in (2, 10, 60)]
    values = [rewards.picture_similarity(picture, other) for other in (picture, *noisy)]
    assert values[0] == pytest.approx(1) and values == sorted(values, reverse=True) and values[-1] < 0.3
    assert rewards.picture_similarity(picture, 255 - picture) == 0


@pytest.mark.parametrize("size", [(6, 10), (8, 8), (17, 23)])
def test_similarity_takes_pictures_of_any_size(size):
    black, white = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)
    assert rewards.picture_similarity(black, black) == 1 and rewards.picture_similarity(black, white) < 0.01


def test_the_view_of_a_very_wide_lens_is_bounded_by_the_map():
    lens = np.array([0.5 / np.tan(np.radians(89.5)), 0.5 / np.tan(np.radians(89.5)), 0.5, 0.5], np.float32)
    seen = rewards.view_voxels(np.eye(4, dtype=np.float32)[None], lens, 4.0, 0.5, (128, 32, 128))
    assert 128 * 32 * 7 < len(seen) <= 128 * 32 * 8 and (abs(seen + 0.5) < (64, 16, 64)).all()
