"""The straight path: ends, derivative, round trips, times per sample and per frame; the loss of its velocity."""

import pytest
import torch
from torch import Tensor

from model.diffusion.rectified_flow import interpolate, velocity_loss


@pytest.fixture
def ends() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (2, 3, 4, 2, 2)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_time_zero_is_data_and_time_one_is_noise(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    assert torch.equal(interpolate(x0, noise, torch.tensor(0.0)), x0)
    assert torch.equal(interpolate(x0, noise, torch.ones(2)), noise)


def test_velocity_is_the_derivative_of_the_path(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    # The path is linear in t, so that a difference of any length is exact.
    slope = (interpolate(x0, noise, torch.tensor(0.8)) - interpolate(x0, noise, torch.tensor(0.3))) / 0.5
    torch.testing.assert_close(slope, noise - x0, atol=1e-6, rtol=1e-5)


def test_a_time_per_frame_noises_only_that_frame(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = ends
    t = torch.tensor([[0.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]])
    x_t = interpolate(x0, noise, t)
    assert torch.equal(x_t[0, :, 0], x0[0, :, 0])
    assert torch.equal(x_t[0, :, 1], noise[0, :, 1])
    torch.testing.assert_close(x_t[0, :, 3], (x0[0, :, 3] + noise[0, :, 3]) / 2)
    assert torch.equal(x_t[1, :, 1:], x0[1, :, 1:])


def test_times_of_another_batch_are_refused(ends: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"t: expected .* got \(3,\)"):
        interpolate(*ends, torch.rand(3))


def test_dtype_of_the_samples_is_kept(ends: tuple[Tensor, Tensor]) -> None:
    x0, noise = (x.bfloat16() for x in ends)
    assert interpolate(x0, noise, torch.rand(2)).dtype == torch.bfloat16


def sample(b: int = 3, f: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x0, noise, prediction = (torch.randn(b, 2, f, 3, 5, generator=generator) for _ in range(3))
    return prediction, x0, noise


def test_the_true_velocity_costs_nothing_and_an_offset_its_square() -> None:
    _, x0, noise = sample()
    assert velocity_loss(noise - x0, noise - x0).tolist() == [0, 0, 0]
    torch.testing.assert_close(velocity_loss(noise - x0 + 0.5, noise - x0), torch.full((3,), 0.25))


def test_half_precision_inputs_are_compared_in_float32() -> None:
    loss = velocity_loss(*(x.bfloat16() for x in sample()[:2]))
    assert loss.dtype == torch.float32
