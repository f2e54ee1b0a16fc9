"""Rotary position embedding over frames, rows and columns: each channel pair turns by position * frequency."""

from functools import cache

import torch
from jaxtyping import Complex64, Float
from torch import Tensor


def split_head_dim(head_dim: int) -> tuple[int, int, int]:
    """Channels of one attention head that encode (frame, row, column).

    Source: Wan 2.1; 44/42/42 for its 128 channels.
    """
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


@cache  # never dropped: a recorded CUDA graph reads its table at this address
def rotary_table(
    num_frames: int,
    height: int,
    width: int,
    head_dim: int,
    theta: float = 1e4,
    device: torch.device | None = None,
    num_still: int = 0,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Complex64[Tensor, "n 1 pairs"]:
    """Unit complex numbers exp(i * angle) for every token of a `num_frames x height x width` grid, row-major.

    Angles are computed in float64 (as Wan does) and rounded once. The first `num_still` channels are not rotated:
    another encoding uses them. Positions (frame, row, column) are multiplied by `scale`: with less than 1, a grid of
    more tokens spans the positions of a coarser one. Cached by shape: treat the result as read-only.

    Source of the scale: Chen et al. 2023 (arXiv 2306.15595), position interpolation.
    """
    # The table is cached beyond the caller's inference_mode, and one made in it could not be saved for a backward pass.
    with torch.inference_mode(False), torch.no_grad():
        grid = torch.meshgrid(
            *(
                torch.arange(size, dtype=torch.float64) * factor
                for size, factor in zip((num_frames, height, width), scale, strict=True)
            ),
            indexing="ij",
        )
        angles = [grid[0].new_zeros(grid[0].numel(), num_still // 2)]
        for position, channels in zip(grid, split_head_dim(head_dim - num_still), strict=True):
            frequencies = theta ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)
            angles.append(position.reshape(-1, 1) * frequencies)
        angle = torch.cat(angles, dim=1)
        return torch.polar(torch.ones_like(angle), angle).to(torch.complex64).unsqueeze(1).to(device)


def rotate(x: Float[Tensor, "b n k c"], table: Complex64[Tensor, "n 1 pairs"]) -> Float[Tensor, "b n k c"]:
    """Turn each adjacent channel pair of queries or keys by its token's angle, in float32.

    One complex multiplication over a view: on a CPU it takes an eighth of the time of the same product written out for
    even and odd channels, whose stride of two prevents vectorisation.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # inductor fuses real numbers only
        (a, b), (cos, sin) = pairs.unbind(-1), torch.view_as_real(table).unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).type_as(x)
    pairs = torch.view_as_complex(pairs)
    return torch.view_as_real(pairs * table).flatten(-2).type_as(x)
