"""The straight path: ends, derivative, round trips, times per sample and per frame."""

import pytest
import torch
from torch import Tensor

from model.diffusion import path


@pytest.fixture
def ends() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (2, 3, 4, 2, 2)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_time_zero_is_data_and_time_one_is_noise(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    assert torch.equal(path.interpolate(x0, noise, torch.tensor(0.0)), x0)
    assert torch.equal(path.interpolate(x0, noise, torch.ones(2)), noise)


def test_velocity_is_the_derivative_of_the_path(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    # The path is linear in t, so that a difference of any length is exact.
    slope = (path.interpolate(x0, noise, torch.tensor(0.8)) - path.interpolate(x0, noise, torch.tensor(0.3))) / 0.5
    torch.testing.assert_close(slope, noise - x0, atol=1e-6, rtol=1e-5)


def test_a_time_per_frame_noises_only_that_frame(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    t = torch.tensor([[0.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]])
    x_t = path.interpolate(x0, noise, t)
    assert torch.equal(x_t[0, :, 0], x0[0, :, 0])
    assert torch.equal(x_t[0, :, 1], noise[0, :, 1])
    torch.testing.assert_close(x_t[0, :, 3], (x0[0, :, 3] + noise[0, :, 3]) / 2)
    assert torch.equal(x_t[1, :, 1:], x0[1, :, 1:])


def test_times_of_another_batch_are_refused(ends: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"t: expected .* got \(3,\)"):
        path.interpolate(*ends, torch.rand(3))


def test_dtype_of_the_samples_is_kept(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = (x.bfloat16() for x in ends)
    assert path.interpolate(x0, noise, torch.rand(2)).dtype == torch.bfloat16
