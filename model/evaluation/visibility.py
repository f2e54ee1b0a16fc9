"""Which pixels of a frame show a surface that earlier frames showed, and which are newly revealed."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.geometry.camera import pixel_grid, project, unproject

SKY_METRES = 1000.0  # metres: in pictures of this size, a point so far away projects like one at infinity
# In inverse metres: the ground's inverse depth is linear in the row, about 0.013 a row for a camera at eye level.
_TOLERANCE, _RELATIVE_TOLERANCE = 0.015, 0.03


def visible_from(
    depth: Float[Tensor, "h w"],
    c2w: Float[Tensor, "4 4"],
    other_depth: Float[Tensor, "k h w"],
    other_c2w: Float[Tensor, "k 4 4"],
    intrinsics: Float[Tensor, "4"],
) -> Bool[Tensor, "k h w"]:
    """Whether each pixel's surface point is in view of, and not hidden from, each other camera.

    Args:
        depth: z-depth in metres of the pixels in question; infinite in the sky.
        c2w: Their camera.
        other_depth: z-depth of the other cameras' views, with all objects that may hide something.
        other_c2w: The other cameras.
        intrinsics: The lens of all cameras.
    """
    height, width = depth.shape
    points = unproject(pixel_grid(height, width), depth.clamp(max=SKY_METRES), c2w, intrinsics)
    uv, distance = project(points[None], other_c2w[:, None, None], intrinsics)
    column = (uv[..., 0] * width).floor().clamp(-1, width).nan_to_num(-1).long()
    row = (uv[..., 1] * height).floor().clamp(-1, height).nan_to_num(-1).long()
    inside = (distance > 0.01) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    at = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    met = other_depth.flatten(1).gather(1, at.flatten(1)).view_as(distance)
    wanted, found = 1 / distance.clamp(min=0.01), 1 / met.clamp(min=0.01)
    return inside & ((wanted - found).abs() < _TOLERANCE + _RELATIVE_TOLERANCE * wanted)


def seen_before_clip(
    depth: Float[Tensor, "f h w"],
    full_depth: Float[Tensor, "f h w"],
    c2w: Float[Tensor, "f 4 4"],
    intrinsics: Float[Tensor, "4"],
    frames_per_clip: int,
    every: int = 4,
) -> Bool[Tensor, "f h w"]:
    """For every frame, the pixels whose static surface was in view in some frame before the frame's own clip began.

    In frame 0, all pixels count as seen: it was given.

    Args:
        depth: Depth of the static scene.
        full_depth: Depth with the moving objects, which hide what is behind them.
        c2w: Camera of every frame.
        intrinsics: The lens of all frames.
        frames_per_clip: Clips of this many frames follow frame 0.
        every: Only every `every`-th earlier frame is checked.
    """
    seen = torch.ones(depth.shape, dtype=torch.bool)
    for frame in range(1, len(depth)):
        clip_begin = (frame - 1) // frames_per_clip * frames_per_clip
        others = slice(0, clip_begin + 1, every)
        seen[frame] = visible_from(depth[frame], c2w[frame], full_depth[others], c2w[others], intrinsics).any(dim=0)
    return seen


def seen_at_start(
    depth: Float[Tensor, "f h w"],
    first_depth: Float[Tensor, "h w"],
    c2w: Float[Tensor, "f 4 4"],
    first_c2w: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "4"],
) -> Bool[Tensor, "f h w"]:
    """For every frame, the pixels whose static surface the first frame showed: a world was given no other surface."""
    return torch.stack(
        [
            visible_from(mine, pose, first_depth[None], first_c2w[None], intrinsics)[0]
            for mine, pose in zip(depth, c2w, strict=True)
        ]
    )
