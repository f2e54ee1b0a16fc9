"""The loss: known value, one number per sample, in float32."""

import torch

from model.diffusion.objective import velocity_loss


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
