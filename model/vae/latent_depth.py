"""Metric depth decoded from the latents of a video: a small network beside the VAE's decoder."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model.geometry import se3
from model.geometry.camera import rays

_CAMERA_CHANNELS = 3 + 1 + 6 + 1  # ray, height, motion since the frame before, whether there was one


@dataclass(kw_only=True)
class LatentDepthConfig:
    """The network of `LatentDepth`.

    Attributes:
        latent_channels: Of the VAE.
        width: Channels of the hidden layers.
        num_blocks: Residual blocks; each looks two tokens farther.
        cells: Depth values along each side of a token.
        max_depth: Metres; everything farther, such as the sky, counts as this far.
    """

    latent_channels: int = 16
    width: int = 48
    num_blocks: int = 3
    cells: int = 4
    max_depth: float = 20.0

    def __post_init__(self) -> None:
        for name in ("latent_channels", "width", "num_blocks", "cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0.2 < self.max_depth < 1e4:
            raise ValueError(f"max_depth: expected 0.2 to 10000 metres, got {self.max_depth}")


class LatentDepth(nn.Module):
    """Depth of a latent frame from it, the frame before, and the cameras of both; convolutions over tokens.

    Besides the latents it gets each token's ray direction in the world frame and the camera's height above the start:
    if the first camera is level, as in the synthetic scenes, this says much about the ground. The frame before and the
    motion since then give parallax.

    Source: ours, because the latents are there at every step and already hold what a depth network would compute.
    """

    def __init__(self, config: LatentDepthConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 2 * config.latent_channels + _CAMERA_CHANNELS
        self.embed = nn.Conv2d(inputs, config.width, 3, padding=1, padding_mode="replicate")
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.num_blocks))
        self.head = nn.Conv2d(config.width, config.cells**2, 1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.ones_(self.head.bias)  # depth starts at exp(1) metres

    def forward(
        self,
        latents: Float[Tensor, "b 2 c h w"],
        c2w: Float[Tensor, "b 2 4 4"],
        intrinsics: Float[Tensor, "b 4"],
        has_before: Float[Tensor, " b"],
    ) -> Float[Tensor, "b dh dw"]:
        """Returns z-depth in metres, of `cells` times as many rows and columns as there are tokens.

        Args:
            latents: The frame before, then the frame.
            c2w: Their poses in the world frame, metres.
            intrinsics: fx fy cx cy, normalised.
            has_before: 0 if there was no frame before; its values are then ignored.
        """
        h, w = latents.shape[-2:]
        _, directions = rays(c2w[:, 1], intrinsics, h, w)
        motion = se3.log(se3.relative(c2w[:, 1], c2w[:, 0])) * has_before[:, None]
        pose = torch.cat([c2w[:, 1, 1, 3:4], motion, has_before[:, None]], dim=1)
        camera = torch.cat([rearrange(directions, "b h w c -> b c h w"), pose[..., None, None].expand(-1, -1, h, w)], 1)
        before = latents[:, 0] * has_before[:, None, None, None]
        x = self.embed(torch.cat([latents[:, 1], before, camera], dim=1))
        for block in self.blocks:
            x = block(x)
        log_depth = functional.pixel_shuffle(self.head(x), self.config.cells)[:, 0]
        return log_depth.exp().clamp(max=self.config.max_depth)


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns x plus the result of the convolutions."""
        out: Tensor = x + self.second(functional.silu(self.first(functional.silu(x))))
        return out
