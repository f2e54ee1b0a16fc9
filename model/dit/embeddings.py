"""The inputs of the transformer: patchify layers, the timestep's embedding, the projected text."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class Patchify(nn.Module):
    """Non-overlapping 3D patches to tokens: a strided 3D convolution, computed as one matrix product.

    The weight has the convolution's shape `[width, channels, pt, ph, pw]`, so a checkpoint's tensor fits as it is.
    """

    def __init__(self, in_channels: int, width: int, patch_size: tuple[int, int, int], bias: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(width, in_channels, *patch_size))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b patch_f patch_hw d"]:
        """Tokens of every latent frame, rows then columns."""
        pt, ph, pw = self.patch_size
        patches = rearrange(x, "b c (f pt) (h ph) (w pw) -> b f (h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)
        return F.linear(patches, self.weight.flatten(1), self.bias)


def unpatchify(
    tokens: Float[Tensor, "b patch_f patch_hw patch_c"], patch_size: tuple[int, int, int], height: int
) -> Float[Tensor, "b c f h w"]:
    """The inverse layout of `Patchify`, with channels innermost as in Wan's head. `height` in latent pixels."""
    pt, ph, pw = patch_size
    pattern = "b f (h w) (pt ph pw c) -> b c (f pt) (h ph) (w pw)"
    return rearrange(tokens, pattern, h=height // ph, pt=pt, ph=ph, pw=pw)


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep -> two linear layers -> (embedding for the head, six modulations for the blocks)."""

    def __init__(self, freq_dim: int, width: int) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.linear_1 = nn.Linear(freq_dim, width)
        self.linear_2 = nn.Linear(width, width)
        self.to_modulation = nn.Linear(width, 6 * width)

    def forward(self, t: Float[Tensor, "b f"]) -> tuple[Float[Tensor, "b f d"], Float[Tensor, "b f 6 d"]]:
        """`t` in [0, 1]; Wan counts 0 to 1000."""
        waves = sinusoids(1000.0 * t.float(), self.freq_dim)
        embedding = self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.weight.dtype))))
        modulation = self.to_modulation(F.silu(embedding).to(self.to_modulation.weight.dtype))
        return embedding, modulation.unflatten(-1, (6, -1)).float()


def sinusoids(position: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch {dim}"]:
    """[cos, sin] at `dim // 2` frequencies from 1 down to 1/10000 (exclusive)."""
    exponent = torch.arange(dim // 2, dtype=torch.float32, device=position.device) / (dim // 2)
    angle = position.unsqueeze(-1) * torch.exp(-math.log(1e4) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TextProjection(nn.Module):
    """The text encoder's tokens, mapped to the transformer's width by two linear layers."""

    def __init__(self, text_dim: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(text_dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, text: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        """Projected tokens."""
        return self.linear_2(F.gelu(self.linear_1(text), approximate="tanh"))
