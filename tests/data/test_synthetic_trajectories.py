"""Sampled paths keep their promises (limits, clearance, level start, every kind) and free space is exact."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from model.data.synthetic.free_space import distance_to_surface
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import SCENE_RADIUS, sample_scene
from model.data.synthetic.trajectories import (
    CAMERA_MARGIN,
    KINDS,
    MAX_ROTATION_PER_POSE,
    MAX_TRANSLATION_PER_POSE,
    sample_trajectory,
)


def test_same_seed_same_path_and_another_seed_another() -> None:
    scene = sample_scene(0)
    (a, kind_a), (b, kind_b), (c, _) = (sample_trajectory(scene, seed, 9) for seed in (1, 1, 2))
    assert torch.equal(a.c2w, b.c2w) and kind_a == kind_b
    assert not torch.equal(a.c2w, c.c2w)


def test_paths_start_level_at_the_start_pose() -> None:
    for seed in range(10):
        scene = sample_scene(seed)
        assert torch.equal(sample_trajectory(scene, seed, 5)[0].c2w[0], scene.start_pose)


@pytest.mark.parametrize("num_latents", [9, 33])
def test_camera_is_never_inside_anything(num_latents: int) -> None:
    for seed in range(100 if num_latents == 9 else 10):
        scene = sample_scene(seed)
        path = sample_trajectory(scene, seed, num_latents)[0].upsample(4)
        times = np.arange(len(path)) / 12
        nearest = distance_to_surface(scene, path.c2w[:, :3, 3].double().numpy(), times)
        assert (nearest > CAMERA_MARGIN - 1e-3).all(), seed


def test_steps_stay_within_the_bounds() -> None:
    for seed in range(30):
        twists = sample_trajectory(sample_scene(seed), seed, 13)[0].twists()
        assert twists[:, :3].norm(dim=-1).max() <= MAX_TRANSLATION_PER_POSE
        assert twists[:, 3:].norm(dim=-1).max() <= MAX_ROTATION_PER_POSE


def test_long_paths_stay_in_the_scene_and_still_go_somewhere() -> None:
    lengths = []
    for seed in range(4):
        path, kind = sample_trajectory(sample_scene(seed), seed, 81)
        assert kind == "sequence" and len(path) == 81
        assert path.c2w[:, [0, 2], 3].norm(dim=-1).max() <= SCENE_RADIUS
        lengths.append(path.path_length())
    assert min(lengths) > 3


def test_long_paths_keep_seeing_objects() -> None:
    empty = []
    for seed in range(4):
        scene = sample_scene(seed)
        path = sample_trajectory(scene, seed, 49)[0]
        times = torch.arange(49) / 3
        bare = dataclasses.replace(scene, objects=())
        depth, ground = (render(s, path.c2w, path.intrinsics, times, 12, 20, 1).depth for s in (scene, bare))
        empty.append((depth == ground).flatten(1).all(1).float().mean())
    assert torch.stack(empty).mean() < 0.15


def test_every_kind_occurs() -> None:
    scenes = [sample_scene(seed) for seed in range(20)]
    kinds = Counter(sample_trajectory(scenes[seed % 20], seed, 5)[1] for seed in range(300))
    assert set(kinds) == set(KINDS)


def test_one_pose_is_a_path() -> None:
    path, kind = sample_trajectory(sample_scene(0), 0, 1)
    assert len(path) == 1 and kind == "still"


@pytest.mark.parametrize(("seed", "num_latents", "name"), [(-1, 5, "seed"), (0, 0, "num_latents")])
def test_bad_arguments_are_named(seed: int, num_latents: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        sample_trajectory(sample_scene(0), seed, num_latents)


def test_distance_is_the_height_far_from_objects_and_negative_inside() -> None:
    scene = sample_scene(0)
    far = np.array([[80.0, -2.0, 0.0], [80.0, 1.0, 0.0]])
    assert np.allclose(distance_to_surface(scene, far, 0.0), [2.0, -1.0])
    for item in sample_scene(3).objects:
        if item.motion is None:
            inside = np.array([[item.x, -0.4 * item.height, item.z]])
            assert distance_to_surface(sample_scene(3), inside, 0.0) < 0


def test_distance_changes_by_at_most_the_step() -> None:
    scene = sample_scene(11)
    rng = np.random.default_rng(0)
    points, steps = rng.uniform([-8, -3, -8], [8, 0, 8], (2000, 3)), 0.1 * rng.normal(size=(2000, 3))
    change = distance_to_surface(scene, points + steps, 0.7) - distance_to_surface(scene, points, 0.7)
    assert (np.abs(change) <= np.linalg.norm(steps, axis=-1) + 1e-9).all()
