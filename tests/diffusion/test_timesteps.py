"""Shift, densities and schedule."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.diffusion.timesteps import sample_timesteps, sampling_schedule, shift_timesteps

shifts = st.floats(0.05, 20.0)


@given(shift=shifts)
def test_shift_keeps_the_ends_and_the_order(shift: float) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    shifted = shift_timesteps(t, shift)
    assert shifted[0] == 0 and shifted[-1] == pytest.approx(1, abs=1e-15)
    assert (shifted.diff() > 0).all()


@given(shift=shifts)
def test_the_inverse_is_the_shift_by_the_reciprocal(shift: float) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(shift_timesteps(shift_timesteps(t, shift), 1 / shift), t)


def test_shift_multiplies_the_noise_to_data_ratio() -> None:
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    shifted = shift_timesteps(t, 12)
    torch.testing.assert_close(shifted / (1 - shifted), 12 * t / (1 - t))


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_a_shift_that_is_not_positive_is_refused(shift: float) -> None:
    with pytest.raises(ValueError, match="shift: expected a positive"):
        shift_timesteps(torch.rand(3), shift)


def test_uniform_times_have_uniform_quantiles() -> None:
    t = sample_timesteps(100_000, torch.Generator().manual_seed(0), density="uniform")
    quantiles = torch.linspace(0.1, 0.9, 9)
    # Standard error of a quantile <= 0.5 / sqrt(100,000) = 0.0016; four of them.
    torch.testing.assert_close(torch.quantile(t, quantiles), quantiles, atol=0.0064, rtol=0)


def test_logit_normal_times_have_a_normal_logit_of_the_given_mean_and_spread() -> None:
    t = sample_timesteps(100_000, torch.Generator().manual_seed(0), mean=0.5, std=0.8)
    logit = torch.logit(t.double())
    # Standard errors 0.8 / sqrt(100,000) = 0.0025 and less; four of them.
    assert logit.mean().item() == pytest.approx(0.5, abs=0.01)
    assert logit.std().item() == pytest.approx(0.8, abs=0.01)
    normal = torch.distributions.Normal(0.5, 0.8)
    for quantile in (0.05, 0.25, 0.75, 0.95):
        expected = normal.icdf(torch.tensor(quantile)).item()
        assert torch.quantile(logit, quantile).item() == pytest.approx(expected, abs=0.025)


def test_shift_moves_the_median_of_training_times_with_the_schedule() -> None:
    t = sample_timesteps(50_000, torch.Generator().manual_seed(0), shift=3.0)
    assert t.median().item() == pytest.approx(0.75, abs=0.005)
    assert t.min() >= 0 and t.max() <= 1


def test_the_same_generator_state_gives_the_same_times() -> None:
    a, b = (sample_timesteps(8, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    sample_timesteps(8, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)  # The global generator is left alone.


def test_an_unknown_density_is_refused() -> None:
    density: Any = "cosine"
    # Under the checks of the tests the annotation speaks first; both name the argument.
    with pytest.raises((ValueError, TypeError), match="density"):
        sample_timesteps(3, density=density)


@given(num_steps=st.integers(1, 100), shift=shifts)
def test_schedule_falls_from_exactly_one_to_exactly_zero(num_steps: int, shift: float) -> None:
    schedule = sampling_schedule(num_steps, shift)
    assert schedule.shape == (num_steps + 1,) and schedule.dtype == torch.float32
    assert schedule[0] == 1 and schedule[-1] == 0
    assert (schedule.diff() < 0).all()


def test_schedule_without_shift_is_even_and_with_the_papers_shift_dwells_near_noise() -> None:
    torch.testing.assert_close(sampling_schedule(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    schedule = sampling_schedule(32, 12)
    assert schedule[16].item() == pytest.approx(12 / 13)
    assert schedule[31].item() == pytest.approx(12 / 32 / (1 + 11 / 32))
    assert math.isclose(schedule[1].item(), 12 * 31 / 32 / (1 + 11 * 31 / 32), rel_tol=1e-6)


def test_a_schedule_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        sampling_schedule(0)
