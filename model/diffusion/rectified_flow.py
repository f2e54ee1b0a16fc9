"""Rectified flow: x_t = (1 - t) x_0 + t noise, whose velocity is noise - x_0, and the loss of a predicted velocity."""

from jaxtyping import Float
from torch import Tensor


def interpolate(
    x0: Float[Tensor, "b *rest"], noise: Float[Tensor, "b *rest"], t: Float[Tensor, "..."]
) -> Float[Tensor, "b *rest"]:
    """The noisy sample x_t.

    Args:
        x0: Data.
        noise: Standard normal noise.
        t: Times in [0, 1]: a scalar, one per sample `[b]`, or one per latent frame `[b f]` (then x0 is `b c f h w`).
    """
    time = _broadcast_time(t, x0)
    return (1 - time) * x0 + time * noise


def _broadcast_time(t: Tensor, x: Tensor) -> Tensor:
    """`t` with singleton axes so that it multiplies `x`: `[]`, `[b]` or, for `b c f h w`, `[b f]`."""
    b = x.shape[0]
    if t.ndim == 0:
        return t.to(x.dtype)
    if t.shape == (b,):
        return t.to(x.dtype).view(b, *[1] * (x.ndim - 1))
    if x.ndim == 5 and t.shape == (b, x.shape[2]):
        return t.to(x.dtype).view(b, 1, x.shape[2], 1, 1)
    raise ValueError(
        f"t: expected a scalar, [b] or (for b c f h w) [b f], got {tuple(t.shape)} for samples {tuple(x.shape)}; "
        "give one time per sample or per latent frame"
    )


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

    Source: the paper, Eq. 1 in velocity form, and Sec. 3.4: context frames have no loss.
    """
    error = (prediction.float() - target.float()).square()
    if channel_weights is not None:
        error = error * channel_weights.to(error).view(-1, 1, 1, 1)
    return error.flatten(1).mean(1)
