"""One step of the depth head: latents of true clips, a little noise on them, and the renderer's depth."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.training.state import generator_for


class DepthBatch(NamedTuple):
    """Pairs of latent frames, with the depth of the second; see `LatentDepth` for the shapes."""

    latents: Float[Tensor, "b 2 c h w"]
    c2w: Float[Tensor, "b 2 4 4"]
    intrinsics: Float[Tensor, "b 4"]
    has_before: Float[Tensor, " b"]
    depth: Float[Tensor, "b dh dw"]


@dataclass(kw_only=True)
class DepthStep:
    """Step function of `fit` for a `LatentDepth`: the mean error of the logarithm of depth.

    Attributes:
        noise: Latents get Gaussian noise of a standard deviation drawn from 0 to this: generated ones are not exact.
        near: Metres within which an error weighs `near_weight` times as much: that is where cameras collide with
            things.
        near_weight: See `near`.
    """

    noise: float = 0.3
    near: float = 4.0
    near_weight: float = 3.0

    def __call__(
        self, module: nn.Module, batch: DepthBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the loss and `near_error`, the mean relative error within `near` metres."""
        sizes = self.noise * torch.rand(len(batch.depth), 1, 1, 1, 1, generator=generator, device=batch.depth.device)
        noise = torch.randn(batch.latents.shape, generator=generator, device=batch.depth.device)
        depth = module(batch.latents + sizes * noise, batch.c2w, batch.intrinsics, batch.has_before)
        error = (depth.log() - batch.depth.log()).abs()
        is_near = batch.depth < self.near
        weights = 1 + (self.near_weight - 1) * is_near
        near = (error.detach() * is_near).sum() / is_near.sum().clamp(min=1)
        return (error * weights).sum() / weights.sum(), {"near_error": near}


class DepthPairs:
    """Batches as a pure function of (seed, step, micro), from latents and depth maps that lie in memory."""

    def __init__(
        self,
        latents: Float[Tensor, "n c f h w"],
        c2w: Float[Tensor, "n f 4 4"],
        depth: Float[Tensor, "n f dh dw"],
        intrinsics: Float[Tensor, "4"],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self.latents, self.c2w, self.depth, self.intrinsics = latents, c2w, depth, intrinsics
        self.batch_size, self.seed = batch_size, seed

    def __call__(self, step: int, micro: int = 0) -> DepthBatch:
        generator = generator_for(torch.device("cpu"), self.seed, step, micro)
        rows = torch.randint(len(self.depth), (self.batch_size,), generator=generator)
        frames = torch.randint(self.depth.shape[1], (self.batch_size,), generator=generator)
        return self.pairs(rows, frames)

    def pairs(self, rows: Tensor, frames: Tensor) -> DepthBatch:
        """The chosen frames of the chosen clips."""
        pair = torch.stack([(frames - 1).clamp(min=0), frames], dim=1)
        return DepthBatch(
            # two index tensors around a slice put the indexed axes first: b 2 c h w
            latents=self.latents[rows[:, None], :, pair].float(),
            c2w=self.c2w[rows[:, None], pair],
            intrinsics=self.intrinsics.expand(len(rows), 4),
            has_before=(frames > 0).float(),
            depth=self.depth[rows, frames].float(),
        )
