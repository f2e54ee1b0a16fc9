"""Training of the video autoencoder: batches, one step, the latents' statistics, pictures of reconstructions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from model.data.clips import FRAMES_PER_LATENT, ClipSet
from model.data.video_io import to_float, to_uint8, write_image
from model.training.state import generator_for
from model.vae.losses import vae_loss
from model.vae.video_vae import VideoVAE


@dataclass(kw_only=True)
class VAEStep:
    """Step function of `fit` for a VideoVAE and batches of video, as bytes; the weights are `vae_loss`'s."""

    l1_weight: float = 1.0
    kl_weight: float = 1e-6
    gradient_weight: float = 0.0

    def __call__(
        self, module: nn.Module, batch: UInt8[Tensor, "b f h w 3"], generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the loss and its terms; `psnr` is that of the sampled posterior's reconstruction, in dB."""
        video = to_float(batch)  # on the training device, since bytes are a quarter of the traffic
        reconstruction, mean, logvar = module(video, generator)
        terms = vae_loss(
            reconstruction,
            video,
            mean,
            logvar,
            l1_weight=self.l1_weight,
            kl_weight=self.kl_weight,
            gradient_weight=self.gradient_weight,
        )
        loss = terms.pop("loss")
        psnr = 10 * torch.log10(4 / terms["mse"].detach().clamp(min=1e-10))  # the peak is 2: [-1, 1]
        return loss, {**{name: term.detach() for name, term in terms.items()}, "psnr": psnr}


class VideoWindows:
    """Random windows of `num_latents` latent frames as a pure function of (seed, step, micro).

    A window starts anywhere, so that any frame is sometimes the first frame, the only one that is encoded alone.
    """

    def __init__(self, clips: ClipSet, *, batch_size: int, num_latents: int, seed: int) -> None:
        if not 2 <= num_latents <= clips.config.num_latents:
            raise ValueError(f"window_latents: expected 2 to {clips.config.num_latents}, got {num_latents}")
        self.clips, self.batch_size, self.seed = clips, batch_size, seed
        self.num_frames = (num_latents - 1) * FRAMES_PER_LATENT + 1

    def __call__(self, step: int, micro: int) -> UInt8[Tensor, "b f h w 3"]:
        generator = generator_for(torch.device("cpu"), self.seed, step, micro)
        rows = torch.randint(len(self.clips), (self.batch_size,), generator=generator).tolist()
        last = self.clips.config.num_frames - self.num_frames
        starts = torch.randint(last + 1, (self.batch_size,), generator=generator).tolist()
        mirrored = torch.rand(self.batch_size, generator=generator) < 0.5
        frames = [self.clips.frames(r)[s : s + self.num_frames] for r, s in zip(rows, starts, strict=True)]
        video = torch.from_numpy(np.stack(frames))
        return torch.where(mirrored[:, None, None, None, None], video.flip(-2), video)

    def first_clips(self, count: int) -> Float[Tensor, "b 3 f h w"]:
        """The first clips, whole (for principal components and statistics)."""
        count = min(count, len(self.clips))
        return to_float(torch.from_numpy(np.stack([self.clips.frames(i) for i in range(count)])))


@torch.no_grad()
def latent_statistics(
    vae: VideoVAE, clips: Float[Tensor, "b 3 f h w"], batch_size: int = 16
) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Mean and standard deviation of every channel of the posterior mean."""
    device = next(vae.parameters()).device
    means = torch.cat([vae.posterior(part.to(device))[0].cpu() for part in clips.split(batch_size)])
    flat = rearrange(means, "b c f h w -> c (b f h w)")
    return flat.mean(1), flat.std(1)


@torch.no_grad()
def reconstruction_sheet(vae: VideoVAE, truth: Float[Tensor, "b 3 f h w"], path: Path, num_rows: int = 6) -> float:
    """Writes a picture (truth above reconstruction, a few frames of a few clips); returns the mean PSNR of all, dB."""
    device = next(vae.parameters()).device
    rebuilt = torch.cat([vae.decode(vae.encode(part.to(device))).cpu() for part in truth.split(8)]).clamp(-1, 1)
    error = ((rebuilt - truth) / 2).square().mean(dim=(1, 2, 3, 4))
    columns = torch.linspace(0, truth.shape[2] - 1, 5).round().long()
    pairs = torch.stack([to_uint8(truth[:num_rows]), to_uint8(rebuilt[:num_rows])], dim=1)[:, :, columns]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, rearrange(pairs, "b k f h w c -> (b k h) (f w) c"))
    return float((-10 * error.log10()).mean())
