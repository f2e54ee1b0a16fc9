"""Eq. 2: planted scales are found, whatever a third of the pixels say."""

import pytest
import torch

from model.curation.scale import ScaleConfig, frame_scale, keyframes, rescale, scene_scale


def planted(scale: float, outliers: float, seed: int, points: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sfm = 0.5 + 4 * torch.rand(points, generator=generator)
    metric = scale * sfm * (1 + 0.03 * torch.randn(points, generator=generator))
    bad = torch.rand(points, generator=generator) < outliers
    metric[bad] = 40 * torch.rand(int(bad.sum()), generator=generator)
    return sfm, metric


@pytest.mark.parametrize("scale", [0.05, 1.0, 37.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_scale_is_found_within_one_percent_among_30_percent_outliers(scale: float, seed: int) -> None:
    found = frame_scale(*planted(scale, 0.3, seed))
    assert found is not None
    assert found == pytest.approx(scale, rel=0.01)


def test_outliers_that_agree_with_each_other_lose_to_the_majority() -> None:
    sfm, metric = planted(2.0, 0.0, 0)
    metric[:120] = 6 * sfm[:120]  # 30 % on a wrong layer of depth
    found = frame_scale(sfm, metric)
    assert found is not None and found == pytest.approx(2.0, rel=0.01)


def test_depths_that_mostly_disagree_have_no_scale() -> None:
    """As where structure from motion bent the scene: a chance agreement of a third is no scale."""
    sfm, metric = planted(2.0, 0.65, 0)
    assert frame_scale(sfm, metric) is None
    found = frame_scale(sfm, metric, ScaleConfig(min_inlier_share=0.2))
    assert found is not None and found == pytest.approx(2.0, rel=0.02)


def test_it_is_the_minimiser_of_the_huber_sum_over_the_inliers() -> None:
    sfm, metric = planted(1.5, 0.0, 1)
    config = ScaleConfig(inlier_below=1e9, huber_delta=0.02)
    found = frame_scale(sfm, metric, config)
    assert found is not None
    delta = 0.02 * float(metric.median())

    def loss(scale: float) -> float:
        return float(torch.nn.functional.huber_loss(scale * sfm.double(), metric.double(), delta=delta))

    assert all(loss(found) <= loss(found * factor) for factor in (0.999, 0.9999, 1.0001, 1.001))


def test_unknown_depths_are_ignored_and_too_few_give_nothing() -> None:
    sfm, metric = planted(2.0, 0.0, 2)
    metric[:100], sfm[100:200] = float("inf"), -1.0
    found = frame_scale(sfm, metric)
    assert found is not None and found == pytest.approx(2.0, rel=0.01)
    assert frame_scale(sfm[:110], metric[:110]) is None


def test_a_scene_has_the_mean_of_its_frames_and_keeps_their_spread() -> None:
    frames = {0: 1.0, 5: None, 9: 3.0}
    scene = scene_scale(frames)
    assert scene is not None
    assert (scene.scale, scene.spread, sorted(scene.frames)) == (2.0, 0.5, [0, 9])
    assert scene_scale({0: None}) is None


def test_keyframes_spread_evenly_and_only_translations_are_scaled() -> None:
    assert keyframes(33, 5) == [0, 8, 16, 24, 32]
    assert (keyframes(3, 8), keyframes(1, 8)) == ([0, 1, 2], [0])
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, :3, 3] = 1.5
    metric = rescale(poses, 2.0)
    assert torch.equal(metric[:, :3, 3], torch.full((2, 3), 3.0))
    assert torch.equal(metric[:, :3, :3], poses[:, :3, :3])
    with pytest.raises(ValueError, match="scale: expected"):
        rescale(poses, 0.0)
