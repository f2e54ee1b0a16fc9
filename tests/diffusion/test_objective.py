"""The loss: known value, blind to context, one number per sample."""

import pytest
import torch

from model.diffusion.objective import velocity_loss


def sample(b: int = 3, f: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x0, noise, prediction = (torch.randn(b, 2, f, 3, 5, generator=generator) for _ in range(3))
    return prediction, x0, noise


def test_the_true_velocity_costs_nothing_and_an_offset_its_square() -> None:
    _, x0, noise = sample()
    assert velocity_loss(noise - x0, x0, noise).tolist() == [0, 0, 0]
    torch.testing.assert_close(velocity_loss(noise - x0 + 0.5, x0, noise), torch.full((3,), 0.25))


@pytest.mark.parametrize("garbage", [1e6, float("inf"), float("nan")])
def test_context_frames_reach_neither_loss_nor_gradient(garbage: float) -> None:
    prediction, x0, noise = sample()
    new = torch.tensor([[False, True, True, True], [False, False, False, True], [True] * 4])
    loss = velocity_loss(prediction, x0, noise, new)
    spoilt = prediction.masked_fill(~new[:, None, :, None, None], garbage).requires_grad_()
    spoilt_loss = velocity_loss(spoilt, x0, noise, new)
    torch.testing.assert_close(spoilt_loss, loss)
    (gradient,) = torch.autograd.grad(spoilt_loss.sum(), spoilt)
    assert (gradient.movedim(2, 1)[~new] == 0).all()
    assert (gradient.movedim(2, 1)[new] != 0).all()


def test_each_sample_is_averaged_over_its_own_new_frames() -> None:
    prediction, x0, noise = sample()
    new = torch.tensor([[False, True, True, True], [False, False, False, True], [True] * 4])
    loss = velocity_loss(prediction, x0, noise, new)
    for row in range(3):
        frames = new[row]
        error = (prediction - noise + x0)[row][:, frames].square().mean()
        torch.testing.assert_close(loss[row], error)


def test_an_all_true_mask_is_no_mask() -> None:
    prediction, x0, noise = sample()
    torch.testing.assert_close(
        velocity_loss(prediction, x0, noise, torch.ones(3, 4, dtype=torch.bool)), velocity_loss(prediction, x0, noise)
    )


def test_a_sample_without_new_frames_costs_zero() -> None:
    assert velocity_loss(*sample(), torch.zeros(3, 4, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_half_precision_inputs_are_compared_in_float32() -> None:
    loss = velocity_loss(*(x.bfloat16() for x in sample()))
    assert loss.dtype == torch.float32
