"""Scenes are pure functions of their seed, captions stay in the vocabulary and name what one sees."""

import math

import numpy as np
import pytest
import torch

from model.data.synthetic.captions import VOCABULARY, caption
from model.data.synthetic.free_space import distance_to_surface
from model.data.synthetic.motion import MOTIONS, Motion, MotionKind
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import Scene, sample_scene, static_scene
from model.data.synthetic.themes import PALETTE, THEMES
from model.geometry.camera import intrinsics_from_fov, project
from model.text.tiny_vocabulary import split_words

SEEDS = range(40)
LENS = intrinsics_from_fov(math.radians(75), 48, 80)


def start_distance(scene: Scene, seconds: float) -> float:
    return float(distance_to_surface(scene, scene.start_pose[None, :3, 3].double().numpy(), seconds)[0])


def test_same_seed_same_scene() -> None:
    assert all(sample_scene(seed) == sample_scene(seed) for seed in SEEDS)
    assert len({caption(sample_scene(seed)) for seed in SEEDS}) > 35
    assert {sample_scene(seed).theme for seed in SEEDS} == set(THEMES)


def test_styles_share_theme_light_and_first_objects() -> None:
    soft, textured = sample_scene(5), sample_scene(5, "textured")
    assert (soft.theme, soft.sun_azimuth) == (textured.theme, textured.sun_azimuth)
    assert textured.objects[: len(soft.objects)] == soft.objects
    assert len(textured.objects) > len(soft.objects)


@pytest.mark.parametrize(("seed", "style", "name"), [(-1, "soft", "seed"), (0, "rough", "style")])
def test_bad_scene_arguments_are_named(seed: int, style: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        sample_scene(seed, style)


def test_captions_stay_in_the_vocabulary_and_short() -> None:
    for seed in range(100):
        words = split_words(caption(sample_scene(seed)))
        assert set(words) <= set(VOCABULARY)
        assert 3 <= len(words) <= 24
    assert set(PALETTE) <= set(VOCABULARY) and set(MOTIONS) <= set(VOCABULARY)


def test_named_objects_are_in_view_at_the_start() -> None:
    for seed in range(50):
        scene = sample_scene(seed)
        seen = scene.visible_at_start()
        assert seen
        centres = torch.tensor([[item.x, -item.hover - item.height / 2, item.z] for item in seen])
        uv, depth = project(centres, scene.start_pose, LENS)
        assert ((uv[:, 0] > 0) & (uv[:, 0] < 1) & (depth > 0)).all()


def test_nearest_named_object_changes_the_picture() -> None:
    for seed in range(8):
        scene = sample_scene(seed)
        pose, start = scene.start_pose[None], torch.zeros(1)
        with_all = render(scene, pose, LENS, start, 48, 80)
        for item in scene.visible_at_start():
            without = Scene(**(vars(scene) | {"objects": tuple(other for other in scene.objects if other != item)}))
            assert (render(without, pose, LENS, start, 48, 80).depth != with_all.depth).sum() >= 4, (seed, item)


def test_something_moves_and_something_stands_in_every_scene() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed)
        still = static_scene(scene)
        assert 1 <= len(scene.objects) - len(still.objects) <= 3
        assert still.objects and all(item.motion is None for item in still.objects)


@pytest.mark.parametrize("kind", MOTIONS)
def test_motion_is_periodic_continuous_and_within_reach(kind: MotionKind) -> None:
    motion = Motion(kind=kind, amplitude=0.9, period=7.0, direction=0.4, phase=0.3)
    times = np.linspace(0, 7, 701)
    offset = motion.offset(times)
    assert np.allclose(offset, motion.offset(times + 7.0), atol=1e-9)
    assert np.allclose(np.cos(motion.turn(times)), np.cos(motion.turn(times + 7.0)))
    assert np.linalg.norm(np.diff(offset, axis=0), axis=-1).max() < 0.02
    assert np.hypot(offset[:, 0], offset[:, 2]).max() <= motion.reach + 1e-9
    assert -1e-9 <= -offset[:, 1].min() <= motion.lift + 1e-9 and offset[:, 1].max() <= 1e-9


def test_moving_objects_have_moderate_speed() -> None:
    times = np.linspace(0, 20, 2401)
    for seed in SEEDS:
        for item in sample_scene(seed).objects:
            if item.motion is not None:
                speed = np.linalg.norm(np.diff(item.motion.offset(times), axis=0), axis=-1) * 120
                assert speed.max() < 1.3


def test_objects_never_touch_each_other_or_the_start() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed)
        assert min(start_distance(scene, seconds) for seconds in (0.0, 1.7, 5.0, 11.3)) > 1.0
        standing = [item for item in scene.objects if item.motion is None or item.motion.kind != "orbiting"]
        for index, a in enumerate(standing):
            for b in standing[:index]:
                assert math.hypot(a.x - b.x, a.z - b.z) > a.swept_radius + b.swept_radius
