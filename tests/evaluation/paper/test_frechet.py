"""The Frechet distance against its closed form, against scipy's matrix root, and its bias."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from model.evaluation.paper.frechet import distance_of_halves, frechet_distance, gaussian_distance


def test_gaussians_of_one_dimension_have_the_textbook_distance():
    one = torch.ones(1)
    assert gaussian_distance(2 * one, one.diag() * 9, -one, one.diag() * 4) == pytest.approx(9 + (3 - 2) ** 2)


def test_gaussians_whose_covariances_commute_differ_by_their_standard_deviations():
    generator = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    deviations = [torch.rand(5, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2)]
    means = [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2)]
    covariances = [turn @ (each**2).diag() @ turn.T for each in deviations]
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    distance = gaussian_distance(means[0], covariances[0], means[1], covariances[1])
    assert distance == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("num_rows", [200, 12], ids=["full_rank", "fewer_clips_than_features"])
def test_scipy_gives_the_same_distance(num_rows):
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    ours = torch.randn(num_rows, 16, generator=generator, dtype=torch.float64) @ mix
    theirs = torch.randn(num_rows, 16, generator=generator, dtype=torch.float64) + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0).numpy(), np.cov(x.numpy().T)) for x in (ours, theirs))
    root = sqrtm(cov_a @ cov_b)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root.real)
    # scipy's own root of a singular product is good to the square root of the rounding error
    assert frechet_distance(ours, theirs) == pytest.approx(float(expected), rel=1e-5 if num_rows < 16 else 1e-9)


def test_of_the_same_clips_it_is_nothing_and_both_ways_it_is_the_same():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    others = 2 * torch.randn(30, 6, generator=torch.Generator().manual_seed(3))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(rows, others) == pytest.approx(frechet_distance(others, rows))


def test_two_samples_of_one_distribution_are_apart_by_one_over_their_size():
    generator = torch.Generator().manual_seed(4)

    def apart(size: int) -> float:
        pairs = [torch.randn(2, size, 8, generator=generator) for _ in range(20)]
        return sum(frechet_distance(one, other) for one, other in pairs) / len(pairs)

    few, many = apart(50), apart(400)
    assert few > 0.2
    assert few / many == pytest.approx(8, rel=0.25)


def test_halves_of_a_set_show_that_bias():
    rows = torch.randn(100, 8, generator=torch.Generator().manual_seed(5))
    assert distance_of_halves(rows) > 0.2
    assert distance_of_halves(rows[:3]) is None


@pytest.mark.parametrize(
    "features",
    [torch.zeros(1, 4), torch.zeros(3, 5), torch.full((3, 4), float("nan"))],
    ids=["one_row", "another_width", "not_a_number"],
)
def test_what_has_no_distance_is_refused(features):
    with pytest.raises(ValueError, match="features: expected"):
        frechet_distance(features, torch.zeros(3, 4))
