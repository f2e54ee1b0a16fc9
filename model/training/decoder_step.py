"""Decoder fine-tuning on DiT samples: the decoder learns to decode latents that the DiT generated.

A decoder that has only seen encoded videos turns a generator's mistakes into grids of its own patches. Here true
latents are noised to one of the sampler's times, solved back by the DiT, and decoded; the true frames are the target.
The encoder is frozen, so the DiT stays valid.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from model.data.clips import FRAMES_PER_LATENT, ClipSet
from model.data.video_io import to_float
from model.diffusion.rectified_flow import interpolate
from model.diffusion.solver import euler
from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT
from model.text.encoder import TextEncoder
from model.training.state import generator_for
from model.vae.video_vae import VideoVAE


class ClipBatch(NamedTuple):
    """The first frames of clips, and what a DiT generates them from."""

    frames: UInt8[Tensor, "b f h w 3"]
    c2w: Float[Tensor, "b latents 4 4"]
    intrinsics: Float[Tensor, "b 4"]
    text: Float[Tensor, "b n d"]


class FirstClips:
    """Batches as a pure function of (seed, step, micro): the first `num_latents` latents of random clips."""

    def __init__(
        self, clips: ClipSet, text_encoder: TextEncoder, *, batch_size: int, num_latents: int, seed: int
    ) -> None:
        self._clips, self._text_encoder = clips, text_encoder
        self._batch_size, self._num_latents, self._seed = batch_size, num_latents, seed

    def __call__(self, step: int, micro: int) -> ClipBatch:
        generator = generator_for(torch.device("cpu"), self._seed, step, micro)
        rows = torch.randint(len(self._clips), (self._batch_size,), generator=generator)
        num_frames = (self._num_latents - 1) * FRAMES_PER_LATENT + 1
        frames = np.stack([self._clips.frames(row)[:num_frames] for row in rows.tolist()])
        return ClipBatch(
            torch.from_numpy(frames),
            self._clips.poses[rows, : self._num_latents],
            self._clips.intrinsics[rows],
            self._text_encoder.encode([self._clips.captions[row] for row in rows.tolist()]),
        )


@dataclass(kw_only=True)
class DecoderStep:
    """Step function of `fit` for a VideoVAE with a frozen encoder.

    Source: ours.

    Attributes:
        dit: The generator; it continues each clip's first latent.
        schedule: The times of its sampler, from 1 to 0. Each batch starts from one of them: from 0 the latents are the
            true ones, from 1 the whole clip is generated.
    """

    dit: VideoDiT
    schedule: Float[Tensor, " steps"]

    def __call__(
        self, module: nn.Module, batch: ClipBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the mean squared error of the frames after the first, and their `psnr` in dB."""
        assert isinstance(module, VideoVAE)
        video = to_float(batch.frames)
        with torch.no_grad():
            start = int(torch.randint(len(self.schedule), (1,), generator=generator, device=generator.device))
            latents = self.regenerate(module.encode(video), batch, start, generator)
        error = (module.decode(latents) - video)[:, :, 1:].square().mean()
        return error, {"psnr": 10 * torch.log10(4 / error.detach().clamp(min=1e-10))}

    def regenerate(
        self, latents: Float[Tensor, "b c f h w"], batch: ClipBatch, start: int, generator: torch.Generator
    ) -> Float[Tensor, "b c f h w"]:
        """All latents but the first noised to time number `start`, and solved back from there."""
        first, true = latents[:, :, :1], latents[:, :, 1:]
        times = self.schedule[start:].to(latents.device)
        noise = torch.empty_like(true).normal_(generator=generator)
        is_context = torch.arange(latents.shape[2], device=latents.device).expand(len(latents), -1) < 1
        height, width = latents.shape[-2:]
        cameras = camera_inputs(self.dit.config, batch.c2w, batch.intrinsics, height, width, num_context=1)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            frame_t = t[:, None] * ~is_context
            latents = torch.cat([first, x], dim=2)
            answer: Tensor = self.dit(latents, frame_t, batch.text, context_mask=is_context, num_context=1, **cameras)
            return answer

        noised = interpolate(true, noise, times[0])
        return torch.cat([first, euler(velocity, noised, times)], dim=2)
