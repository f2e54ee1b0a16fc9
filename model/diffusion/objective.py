"""The training objective: squared error of the velocity of the new frames."""

from jaxtyping import Float
from torch import Tensor

from model.diffusion.path import velocity


def velocity_loss(
    prediction: Float[Tensor, "b c new h w"],
    x0: Float[Tensor, "b c new h w"],
    noise: Float[Tensor, "b c new h w"],
) -> Float[Tensor, "b"]:
    """Mean squared error against `noise - x0` of every sample, in float32; reduce it with `.mean()`.

    Args:
        prediction: The network's velocity (`VideoDiT` with `num_context` leaves the context out by itself).
        x0: Clean latents.
        noise: Their noise.

    Source: the paper, Eq. 1 in velocity form, and Sec. 3.4: context frames take no loss.
    """
    return (prediction.float() - velocity(x0, noise).float()).square().flatten(1).mean(1)
