"""What a learned world remembers of an episode: a sliding window of clean latents and the poses they were seen from.

Every entry has a constant shape, so that rows of different age live in one batch; `count` says how many are valid.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor


def open_window(latents: Float[Tensor, "b c f h w"], c2w: Float[Tensor, "b f 4 4"], capacity: int) -> TensorDict:
    """A window that holds the last `capacity` of these latents: `latents`, `c2w` and `count` `[b]`.

    Valid entries lie at the end of the frame axis; before them there are zeros and identity poses.
    """
    b, c, _, h, w = latents.shape
    empty = TensorDict(
        {
            "latents": latents.new_zeros(b, c, capacity, h, w),
            "c2w": torch.eye(4, dtype=c2w.dtype, device=c2w.device).repeat(b, capacity, 1, 1),
            "count": torch.zeros(b, dtype=torch.int64, device=latents.device),
        },
        batch_size=[b],
    )
    return slide(empty, latents, c2w)


def slide(window: TensorDict, latents: Float[Tensor, "b c f h w"], c2w: Float[Tensor, "b f 4 4"]) -> TensorDict:
    """The window after these latents: the oldest fall out. The poses stay in the world frame: nothing is re-based.

    Source: the paper, Sec. 3.4 (the last n frames condition the next clip, with their own cameras).
    """
    capacity = window["latents"].shape[2]
    return TensorDict(
        {
            "latents": torch.cat([window["latents"], latents], dim=2)[:, :, -capacity:],
            "c2w": torch.cat([window["c2w"], c2w], dim=1)[:, -capacity:],
            "count": (window["count"] + latents.shape[2]).clamp(max=capacity),
        },
        batch_size=window.batch_size,
    )


def rows_by_count(window: TensorDict) -> list[tuple[Tensor, int]]:
    """Row indices grouped by their number of valid entries, so that each group is one network call without padding."""
    counts = window["count"]
    return [(torch.nonzero(counts == count).flatten(), int(count)) for count in counts.unique().tolist()]
