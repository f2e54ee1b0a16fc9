"""Encoder and decoder of the video autoencoder: levels of residual blocks between resampling steps."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.vae.blocks import ChannelRMSNorm, Downsample, MidBlock, ResidualBlock, Upsample
from model.vae.causal import CausalConv3d, Stream


class Encoder(nn.Module):
    """Pixels (or patches of them) to features of the latent grid, level by level from fine to coarse.

    Args:
        in_dim: channels of the input.
        out_dim: channels of the output.
        dims: width of each level.
        num_res_blocks: residual blocks a level.
        space: for each step between two levels, whether it halves height and width.
        time: for each step, whether it halves time.
        temporal_kernels: frames that the convolutions of each level see.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        dims: Sequence[int],
        num_res_blocks: int,
        space: Sequence[bool],
        time: Sequence[bool],
        temporal_kernels: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(in_dim, dims[0], temporal_kernels[0])
        self.levels = nn.ModuleList()
        self.downsamples = nn.ModuleList()
        width = dims[0]
        for i, dim in enumerate(dims):
            widths = [width] + [dim] * num_res_blocks
            blocks = [ResidualBlock(widths[j], dim, temporal_kernels[i]) for j in range(num_res_blocks)]
            self.levels.append(nn.ModuleList(blocks))
            width = dim if num_res_blocks else width
            if i < len(dims) - 1:
                self.downsamples.append(Downsample(width, space=space[i], time=time[i]))
        self.mid = MidBlock(width, temporal_kernels[-1])
        self.norm_out = ChannelRMSNorm(width)
        self.conv_out = CausalConv3d(width, out_dim, temporal_kernels[-1])

    def forward(self, x: Float[Tensor, "b c f h w"], stream: Stream) -> Float[Tensor, "b c_z f_z h_z w_z"]:
        """Features of the latent grid."""
        x = self.conv_in(x, stream)
        for i, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, stream)
            if i < len(self.downsamples):
                x = self.downsamples[i](x, stream)
        x = self.mid(x, stream)
        return self.conv_out(F.silu(self.norm_out(x)), stream)


class Decoder(nn.Module):
    """Latents to pixels (or patches of them), level by level from coarse to fine.

    The arguments describe the levels as `Encoder`'s do, from fine to coarse.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        dims: Sequence[int],
        num_res_blocks: int,
        space: Sequence[bool],
        time: Sequence[bool],
        temporal_kernels: Sequence[int],
    ) -> None:
        super().__init__()
        width = dims[-1]
        self.conv_in = CausalConv3d(in_dim, width, temporal_kernels[-1])
        self.mid = MidBlock(width, temporal_kernels[-1])
        self.levels = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        for i in reversed(range(len(dims))):
            widths = [width] + [dims[i]] * num_res_blocks
            blocks = [ResidualBlock(widths[j], dims[i], temporal_kernels[i]) for j in range(num_res_blocks)]
            self.levels.append(nn.ModuleList(blocks))
            width = dims[i] if num_res_blocks else width
            if i > 0:
                upsample = Upsample(width, space=space[i - 1], time=time[i - 1])
                self.upsamples.append(upsample)
                width = upsample.out_dim
        self.norm_out = ChannelRMSNorm(width)
        self.conv_out = CausalConv3d(width, out_dim, temporal_kernels[0])

    def forward(self, z: Float[Tensor, "b c_z f_z h_z w_z"], stream: Stream) -> Float[Tensor, "b c f h w"]:
        """Pixels, or their patches, of the frames that the latents stand for."""
        x = self.mid(self.conv_in(z, stream), stream)
        for i, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, stream)
            if i < len(self.upsamples):
                x = self.upsamples[i](x, stream)
        return self.conv_out(F.silu(self.norm_out(x)), stream)
