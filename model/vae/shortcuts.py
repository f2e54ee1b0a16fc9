"""Shortcuts around the levels of Wan 2.2's autoencoder: means on the way down, copies on the way up, no weights.

Source: Wan 2.2's VAE as in diffusers (`AvgDown3D`, `DupUp3D`); the idea is DC-AE's (arXiv 2410.10733).
"""

import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn


class MeanShortcut(nn.Module):
    """Pixels become channels where space or time is halved, and groups of channels are averaged to `out_dim`."""

    def __init__(self, in_dim: int, out_dim: int, *, space: bool, time: bool) -> None:
        super().__init__()
        self.space, self.time = 1 + space, 1 + time
        self.group = _whole_ratio(in_dim * self.time * self.space**2, out_dim)

    def forward(self, x: Float[Tensor, "b c f h w"], at_start: bool) -> Float[Tensor, "b c_out f_out h_out w_out"]:
        """`at_start`: a zero frame is put before the first frame of the video, so that it has a pair, too."""
        if at_start and self.time == 2:
            x = F.pad(x, (0, 0, 0, 0, 1, 0))
        channels = rearrange(x, "b c (f t) (h q) (w r) -> b (c t q r) f h w", t=self.time, q=self.space, r=self.space)
        return reduce(channels, "b (c g) f h w -> b c f h w", "mean", g=self.group)


class CopyShortcut(nn.Module):
    """Each channel is copied, and the copies become pixels where space or time is doubled."""

    def __init__(self, in_dim: int, out_dim: int, *, space: bool, time: bool) -> None:
        super().__init__()
        self.space, self.time = 1 + space, 1 + time
        self.copies = _whole_ratio(out_dim * self.time * self.space**2, in_dim)

    def forward(self, x: Float[Tensor, "b c f h w"], at_start: bool) -> Float[Tensor, "b c_out f_out h_out w_out"]:
        """`at_start`: of the two copies of the first frame of the video the earlier one is left out."""
        copies = x.repeat_interleave(self.copies, dim=1)
        y = rearrange(copies, "b (c t q r) f h w -> b c (f t) (h q) (w r)", t=self.time, q=self.space, r=self.space)
        return y[:, :, 1:] if at_start and self.time == 2 else y


def _whole_ratio(channels: int, parts: int) -> int:
    if channels % parts:
        raise ValueError(f"is_residual: expected widths that divide each other, got {channels} over {parts} channels")
    return channels // parts
