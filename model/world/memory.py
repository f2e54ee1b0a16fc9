"""The memory of a learned world: a sliding window of clean latents and the poses they were seen from.

The next clip's context is the latest of them and, if the network was trained for it, some that are chosen by view
overlap: the poses are known, so one can compute which past latents show the places that the camera flies to.

Every entry has a constant shape, so that rows of different age fit into one batch; `count` says how many are valid.
"""

import torch
from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor

from model.geometry.camera import pixel_grid, project, unproject

_GRID = (4, 6)  # rows and columns of the rays that sample a field of view
_DEPTHS = (1.5, 3.0, 6.0, 12.0)  # metres along them


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
    """The window with these latents added, the oldest removed. The poses stay in the world frame: nothing is re-based.

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


def latest(window: TensorDict, num: int) -> TensorDict:
    """The window as it would be with a capacity of `num`."""
    return TensorDict(
        {
            "latents": window["latents"][:, :, -num:],
            "c2w": window["c2w"][:, -num:],
            "count": window["count"].clamp(max=num),
        },
        batch_size=window.batch_size,
    )


def rows_by_count(window: TensorDict, most: int) -> list[tuple[Tensor, int]]:
    """Row indices grouped by their number of valid entries, at most `most`: each group is one call without padding."""
    counts = window["count"].clamp(max=most)
    return [(torch.nonzero(counts == count).flatten(), int(count)) for count in counts.unique().tolist()]


def choose_context(
    window: TensorDict,
    c2w: Float[Tensor, "b new 4 4"],
    intrinsics: Float[Tensor, "b 4"],
    num: int,
    num_memory: int,
) -> tuple[Float[Tensor, "b c num h w"], Float[Tensor, "b num 4 4"]]:
    """Latents and poses of the context of the next clip: `num_memory` chosen ones, then the `num - num_memory` latest.

    They are chosen one by one: each time the past view that shows most of what the new poses look at and the context
    does not show yet. Among equals, the view that shows most of it at all; then the oldest: fewer generated clips lie
    between it and the first picture, so it has fewer errors.

    Args:
        window: `b` rows that hold `num` entries or more each.
        c2w: Poses of the new latents.
        intrinsics: Of both.
        num: Latents in the context.
        num_memory: How many of them are chosen.

    Source: ours, after Yu et al. 2025, "Context as Memory" (retrieval by overlap of the fields of view).
    """
    latents, poses = window["latents"], window["c2w"]
    if num_memory == 0:
        return latents[:, :, -num:], poses[:, -num:]
    capacity, recent = poses.shape[1], num - num_memory
    index = torch.arange(capacity, device=poses.device)
    sees = _sees(poses, _looked_at(c2w, intrinsics), intrinsics)
    points = sees.shape[-1]
    is_shown = sees[:, capacity - recent :].any(dim=1)
    is_free = (index >= capacity - window["count"][:, None]) & (index < capacity - recent)
    chosen = []
    for _ in range(num_memory):
        new = (sees & ~is_shown[:, None]).sum(-1)
        gain = (new * (points + 1) + sees.sum(-1)) * capacity - index  # by what is new, all that is seen, and age
        best = gain.masked_fill(~is_free, -capacity).argmax(dim=1, keepdim=True)
        chosen.append(best)
        is_free = is_free.scatter(1, best, False)
        is_shown = is_shown | sees.take_along_dim(best[..., None], dim=1).squeeze(1)
    remembered = torch.cat(chosen, dim=1).sort(dim=1).values
    frames = torch.cat([remembered, index[capacity - recent :].expand(len(poses), -1)], dim=1)
    return (
        latents.take_along_dim(frames[:, None, :, None, None], dim=2),
        poses.take_along_dim(frames[..., None, None], dim=1),
    )


def _looked_at(c2w: Float[Tensor, "b new 4 4"], intrinsics: Float[Tensor, "b 4"]) -> Float[Tensor, "b points 3"]:
    """Points along rays of these cameras, at several depths."""
    grid = pixel_grid(*_GRID, device=c2w.device, dtype=c2w.dtype)
    depths = c2w.new_tensor(_DEPTHS)[:, None, None]
    return unproject(grid, depths, c2w[:, :, None, None, None], intrinsics[:, None, None, None, None]).flatten(1, -2)


def _sees(
    c2w: Float[Tensor, "b n 4 4"], points: Float[Tensor, "b points 3"], intrinsics: Float[Tensor, "b 4"]
) -> Bool[Tensor, "b n points"]:
    """Whether a point lies in the field of view of each pose."""
    uv, depth = project(points[:, None], c2w[:, :, None], intrinsics[:, None, None])
    return (depth > 0) & (uv > 0).all(-1) & (uv < 1).all(-1)
