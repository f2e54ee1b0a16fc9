"""The training objective: squared error of the velocity of the new frames."""

from jaxtyping import Float
from torch import Tensor


def velocity_loss(
    prediction: Float[Tensor, "b c new h w"],
    target: Float[Tensor, "b c new h w"],
    channel_weights: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b"]:
    """Mean squared error of every sample, in float32; reduce it with `.mean()`.

    Args:
        prediction: The network's velocity (`VideoDiT` with `num_context` leaves the context out by itself).
        target: `noise - x0`, or a teacher's.
        channel_weights: Weight of each latent channel's squared error, mean 1; None: equal.

    Source: the paper, Eq. 1 in velocity form, and Sec. 3.4: context frames take no loss.
    """
    error = (prediction.float() - target.float()).square()
    if channel_weights is not None:
        error = error * channel_weights.to(error).view(-1, 1, 1, 1)
    return error.flatten(1).mean(1)
