"""The training objective: squared error of the velocity, on the new frames only."""

from jaxtyping import Bool, Float
from torch import Tensor

from model.diffusion.path import velocity


def velocity_loss(
    prediction: Float[Tensor, "b c f h w"],
    x0: Float[Tensor, "b c f h w"],
    noise: Float[Tensor, "b c f h w"],
    loss_mask: Bool[Tensor, "b f"] | None = None,
) -> Float[Tensor, "b"]:
    """Mean squared error against `noise - x0` of every sample, in float32; reduce it with `.mean()`.

    Args:
        prediction: The network's velocity.
        x0: Clean latents.
        noise: Their noise.
        loss_mask: True for frames that count (the new clip); None counts all. A sample without any gives 0.

    Source: the paper, Eq. 1 in velocity form, and Sec. 3.4: context frames take no loss.
    """
    difference = prediction.float() - velocity(x0, noise).float()
    if loss_mask is None:
        return difference.square().flatten(1).mean(1)
    # where() before the square, not a product after it: whatever the network says on a context frame, even infinity,
    # reaches neither the loss nor its gradient.
    difference = difference.where(loss_mask[:, None, :, None, None], 0.0)
    per_frame = difference.square().mean(dim=(1, 3, 4))
    return per_frame.sum(1) / loss_mask.sum(1).clamp(min=1)
