"""Blocks of the causal autoencoder: norm, residual block, attention within a frame, resampling of space and time."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.vae.causal import CausalConv3d, Stream, memory_format_of

Features = Float[Tensor, "b c f h w"]


class ChannelRMSNorm(nn.Module):
    """Divides by the root mean square over the channels, per pixel and frame (in float32)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Features) -> Features:
        """Same shape."""
        wide = x.float()
        inverse = torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + 1e-24)
        return (wide * inverse * self.weight.float().view(-1, 1, 1, 1)).to(x.dtype)


class ResidualBlock(nn.Module):
    """Twice norm, SiLU, causal convolution; added to the input, which a 1x1x1 convolution widens if need be."""

    def __init__(self, in_dim: int, out_dim: int, temporal_kernel: int = 3) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(in_dim)
        self.conv1 = CausalConv3d(in_dim, out_dim, temporal_kernel)
        self.norm2 = ChannelRMSNorm(out_dim)
        self.conv2 = CausalConv3d(out_dim, out_dim, temporal_kernel)
        self.shortcut = CausalConv3d(in_dim, out_dim, 1, 1) if in_dim != out_dim else None

    def forward(self, x: Features, stream: Stream) -> Float[Tensor, "b c_out f h w"]:
        """`c_out` is `out_dim`."""
        residual = self.conv1(F.silu(self.norm1(x)), stream)
        residual = self.conv2(F.silu(self.norm2(residual)), stream)
        return residual + (x if self.shortcut is None else self.shortcut(x, stream))


class FrameAttention(nn.Module):
    """Self-attention with one head among the pixels of each frame; frames do not see each other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Features) -> Features:
        """Same shape."""
        tokens = rearrange(self.norm(x), "b c f h w -> (b f) 1 (h w) c")
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v))
        return x + rearrange(mixed, "(b f) 1 (h w) c -> b c f h w", b=x.shape[0], h=x.shape[3])


class MidBlock(nn.Module):
    """Residual block, attention, residual block at the resolution of the latents."""

    def __init__(self, dim: int, temporal_kernel: int = 3) -> None:
        super().__init__()
        self.before = ResidualBlock(dim, dim, temporal_kernel)
        self.attention = FrameAttention(dim)
        self.after = ResidualBlock(dim, dim, temporal_kernel)

    def forward(self, x: Features, stream: Stream) -> Features:
        """Same shape."""
        return self.after(self.attention(self.before(x, stream)), stream)


class Downsample(nn.Module):
    """Halves space, time or both. The first frame of a video is never merged: 1 + 2k frames become 1 + k."""

    def __init__(self, dim: int, *, space: bool, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv2d(dim, dim, 3, stride=2) if space else None
        self.time = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, x: Features, stream: Stream) -> Float[Tensor, "b c f_out h_out w_out"]:
        """Fewer frames, smaller frames."""
        if self.space is not None:
            x = per_frame(self.space, F.pad(x, (0, 1, 0, 1)))
        return x if self.time is None else self._merge_pairs(self.time, x, stream)

    def _merge_pairs(self, conv: nn.Conv3d, x: Tensor, stream: Stream) -> Tensor:
        extended = stream.extend(x, 1)
        if not stream.at_start:
            return conv(extended)
        return torch.cat([x[:, :, :1], conv(x)], dim=2) if x.shape[2] > 1 else x


class Upsample(nn.Module):
    """Doubles space, time or both. The first frame of a video stays alone: 1 + k frames become 1 + 2k.

    Doubling space makes `out_dim` channels, half as many by default; doubling time alone keeps them.
    """

    def __init__(self, dim: int, out_dim: int | None = None, *, space: bool, time: bool) -> None:
        super().__init__()
        self.out_dim = (out_dim or dim // 2) if space else dim
        self.time = CausalConv3d(dim, 2 * dim, 3, 1) if time else None
        self.space = nn.Conv2d(dim, self.out_dim, 3, padding=1) if space else None

    def forward(self, x: Features, stream: Stream) -> Float[Tensor, "b c_out f_out h_out w_out"]:
        """More frames, larger frames; `c_out` is `out_dim`."""
        if self.time is not None:
            x = self._split_pairs(self.time, x, stream)
        return x if self.space is None else per_frame(self.space, double_space(x))

    def _split_pairs(self, conv: CausalConv3d, x: Tensor, stream: Stream) -> Tensor:
        # the memory starts at zero *after* the first frame: Wan's first frame never enters this convolution
        first, rest = (x[:, :, :1], x[:, :, 1:]) if stream.at_start else (x[:, :, :0], x)
        extended = stream.extend(rest, conv.kernel_size[0] - 1)
        if rest.shape[2] == 0:
            return first
        pairs = conv.convolve(extended)
        split = rearrange(pairs, "b (two c) f h w -> b c (f two) h w", two=2)
        return torch.cat([first, split.contiguous(memory_format=memory_format_of(pairs))], dim=2)


def per_frame(conv: Callable[[Tensor], Tensor], x: Features) -> Float[Tensor, "b c_out f h_out w_out"]:
    """Applies a function of pictures, a 2D convolution for one, to every frame; keeps channels-last."""
    return rearrange(conv(rearrange(x, "b c f h w -> (b f) c h w")), "(b f) c h w -> b c f h w", b=x.shape[0])


def double_space(x: Features) -> Float[Tensor, "b c f 2*h 2*w"]:
    """Nearest-neighbour enlargement of height and width by two; keeps channels-last."""
    if memory_format_of(x) == torch.channels_last_3d:
        return per_frame(partial(F.interpolate, scale_factor=2), x)
    return x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
