"""One step of the video autoencoder: a sample of the posterior, its reconstruction, and the losses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from model.data.video_io import to_float
from model.vae.losses import vae_loss


@dataclass(kw_only=True)
class VAEStep:
    """Step function of `fit` for a VideoVAE and batches of video, as bytes; the weights are `vae_loss`'s."""

    l1_weight: float = 1.0
    mse_weight: float = 1.0
    kl_weight: float = 1e-6
    gradient_weight: float = 0.0

    def __call__(
        self, module: nn.Module, batch: UInt8[Tensor, "b f h w 3"], generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the loss and its terms; `psnr` is that of the sampled posterior's reconstruction, in dB."""
        video = to_float(batch)  # here, on the training device: bytes are a quarter to carry there
        reconstruction, mean, logvar = module(video, generator)
        terms = vae_loss(
            reconstruction,
            video,
            mean,
            logvar,
            l1_weight=self.l1_weight,
            mse_weight=self.mse_weight,
            kl_weight=self.kl_weight,
            gradient_weight=self.gradient_weight,
        )
        loss = terms.pop("loss")
        psnr = 10 * torch.log10(4 / terms["mse"].detach().clamp(min=1e-10))  # the peak is 2: [-1, 1]
        return loss, {**{name: term.detach() for name, term in terms.items()}, "psnr": psnr}
