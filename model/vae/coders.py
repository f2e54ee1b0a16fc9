"""Encoder and decoder of the video autoencoder: levels of residual blocks between resampling steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.vae.blocks import ChannelRMSNorm, Downsample, MidBlock, ResidualBlock, Upsample
from model.vae.causal import CausalConv3d, Stream
from model.vae.shortcuts import CopyShortcut, MeanShortcut


@dataclass(frozen=True)
class Levels:
    """The levels of an encoder, from fine to coarse; a decoder with the same ones is its mirror image.

    Attributes:
        dims: Width of each level.
        num_res_blocks: Residual blocks a level.
        space: For each step between two levels, whether it halves height and width.
        time: For each step, whether it halves time.
        temporal_kernels: Frames that the convolutions of each level see.
        is_residual: A shortcut leads around each level and its resampling, as in Wan 2.2.
    """

    dims: Sequence[int]
    num_res_blocks: int
    space: Sequence[bool]
    time: Sequence[bool]
    temporal_kernels: Sequence[int]
    is_residual: bool = False

    def blocks(self, level: int, width: int) -> nn.ModuleList:
        """The residual blocks of a level, the first of which takes `width` channels."""
        dim = self.dims[level]
        widths = [width] + [dim] * self.num_res_blocks
        kernel = self.temporal_kernels[level]
        return nn.ModuleList(ResidualBlock(widths[j], dim, kernel) for j in range(self.num_res_blocks))


class Encoder(nn.Module):
    """Pixels (or patches of them) to features of the latent grid, level by level from fine to coarse."""

    def __init__(self, in_dim: int, out_dim: int, levels: Levels) -> None:
        super().__init__()
        dims, kernels = levels.dims, levels.temporal_kernels
        self.conv_in = CausalConv3d(in_dim, dims[0], kernels[0])
        self.levels = nn.ModuleList()
        self.downsamples = nn.ModuleList()
        self.shortcuts = nn.ModuleList()
        width = dims[0]
        for i, dim in enumerate(dims):
            before, is_last = width, i == len(dims) - 1
            self.levels.append(levels.blocks(i, width))
            width = dim if levels.num_res_blocks else width
            halved = {"space": not is_last and levels.space[i], "time": not is_last and levels.time[i]}
            if not is_last:
                self.downsamples.append(Downsample(width, **halved))
            if levels.is_residual:
                self.shortcuts.append(MeanShortcut(before, width, **halved))
        self.mid = MidBlock(width, kernels[-1])
        self.norm_out = ChannelRMSNorm(width)
        self.conv_out = CausalConv3d(width, out_dim, kernels[-1])

    def forward(self, x: Float[Tensor, "b c f h w"], stream: Stream) -> Float[Tensor, "b c_z f_z h_z w_z"]:
        """Features of the latent grid."""
        x = self.conv_in(x, stream)
        for i, level in enumerate(self.levels):
            before = x
            for block in level:  # type: ignore[attr-defined]
                x = block(x, stream)
            if i < len(self.downsamples):
                x = self.downsamples[i](x, stream)
            if i < len(self.shortcuts):
                x = x + self.shortcuts[i](before, stream.at_start)
        x = self.mid(x, stream)
        return self.conv_out(F.silu(self.norm_out(x)), stream)


class Decoder(nn.Module):
    """Latents to pixels (or patches of them), level by level from coarse to fine."""

    def __init__(self, in_dim: int, out_dim: int, levels: Levels) -> None:
        super().__init__()
        dims, kernels = levels.dims, levels.temporal_kernels
        width = dims[-1]
        self.conv_in = CausalConv3d(in_dim, width, kernels[-1])
        self.mid = MidBlock(width, kernels[-1])
        self.levels = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        self.shortcuts = nn.ModuleList()
        for i in reversed(range(len(dims))):
            before = width
            self.levels.append(levels.blocks(i, width))
            width = dims[i] if levels.num_res_blocks else width
            if i > 0:
                doubled = {"space": levels.space[i - 1], "time": levels.time[i - 1]}
                upsample = Upsample(width, width if levels.is_residual else None, **doubled)
                self.upsamples.append(upsample)
                width = upsample.out_dim
                if levels.is_residual:
                    self.shortcuts.append(CopyShortcut(before, width, **doubled))
        self.norm_out = ChannelRMSNorm(width)
        self.conv_out = CausalConv3d(width, out_dim, kernels[0])

    def forward(self, z: Float[Tensor, "b c_z f_z h_z w_z"], stream: Stream) -> Float[Tensor, "b c f h w"]:
        """Pixels, or their patches, of the frames that the latents represent."""
        x = self.mid(self.conv_in(z, stream), stream)
        for i, level in enumerate(self.levels):
            before = x
            for block in level:  # type: ignore[attr-defined]
                x = block(x, stream)
            if i < len(self.upsamples):
                x = self.upsamples[i](x, stream)
            if i < len(self.shortcuts):
                x = x + self.shortcuts[i](before, stream.at_start)
        return self.conv_out(F.silu(self.norm_out(x)), stream)
