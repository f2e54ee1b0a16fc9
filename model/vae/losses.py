"""Training losses of the video autoencoder."""

import torch
from jaxtyping import Float
from torch import Tensor


def vae_loss(
    reconstruction: Float[Tensor, "b c f h w"],
    video: Float[Tensor, "b c f h w"],
    mean: Float[Tensor, "b c_z f_z h_z w_z"],
    logvar: Float[Tensor, "b c_z f_z h_z w_z"],
    *,
    l1_weight: float = 1.0,
    kl_weight: float = 1e-4,
    gradient_weight: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Named terms, each unweighted, and their weighted sum `loss`.

    Terms: `l1` (Charbonnier), `mse`, `kl` (per latent value, to the unit Gaussian) and, where its weight is not zero,
    `gradient` (L1 between spatial differences: sharpness).

    Source: ours, because L1 + KL is Wan's without the perceptual and adversarial terms, which need other networks.
    """
    error = reconstruction - video
    terms = {"l1": charbonnier(error), "mse": error.square().mean(), "kl": kl_to_unit_gaussian(mean, logvar)}
    loss = l1_weight * terms["l1"] + terms["mse"] + kl_weight * terms["kl"]
    if gradient_weight:
        terms["gradient"] = gradient_difference(reconstruction, video)
        loss = loss + gradient_weight * terms["gradient"]
    return {"loss": loss, **terms}


def charbonnier(error: Float[Tensor, "..."], epsilon: float = 1e-3) -> Float[Tensor, ""]:
    """Mean of sqrt(error^2 + epsilon^2) - epsilon: L1, but smooth at zero."""
    return (error.square() + epsilon**2).sqrt().mean() - epsilon


def kl_to_unit_gaussian(mean: Float[Tensor, "..."], logvar: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Mean over latent values of KL(N(mean, exp(logvar)) || N(0, 1)) in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()


def gradient_difference(
    reconstruction: Float[Tensor, "b c f h w"], video: Float[Tensor, "b c f h w"]
) -> Float[Tensor, ""]:
    """Mean absolute difference between the horizontal and vertical finite differences of two videos."""
    error = reconstruction - video
    vertical, horizontal = torch.diff(error, dim=3), torch.diff(error, dim=4)
    return vertical.abs().mean() + horizontal.abs().mean()
