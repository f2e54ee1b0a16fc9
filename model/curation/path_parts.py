"""Which frames of a path belong together, and which few are put elsewhere: the steps between them tell."""

import dataclasses
from itertools import pairwise

import torch
from jaxtyping import Bool
from torch import Tensor

from model.estimators.sfm import Reconstruction


def path_parts(known: Bool[Tensor, " f"], off: Bool[Tensor, " f"], max_gap: int) -> list[list[int]]:
    """Returns the frames with a pose, split where the step between two of them is off, or has a long gap.

    Args:
        known: Frames with a pose.
        off: The step to this frame, from the one with a pose before it, is wrong.
        max_gap: Successive frames without a pose that a step may leave out.
    """
    frames = known.nonzero()[:, 0].tolist()
    parts = [frames[:1]] if frames else []
    for before, after in pairwise(frames):
        if off[after] or after - before - 1 > max_gap:
            parts.append([])
        parts[-1].append(after)
    return parts


def outlier_frames(parts: list[list[int]], most: int) -> list[int]:
    """Returns the frames of parts so short that they are mistakes: at most `most` frames, parts on both sides."""
    return [frame for part in parts[1:-1] if len(part) <= most for frame in part]


def without_frames(reconstruction: Reconstruction, frames: list[int]) -> Reconstruction:
    """Returns the reconstruction as if these frames had found no pose; its points stay."""
    registered, c2w = reconstruction.registered.clone(), reconstruction.c2w.clone()
    registered[frames] = False
    c2w[frames] = torch.eye(4)
    seen = registered[reconstruction.frame_of]
    return dataclasses.replace(
        reconstruction,
        registered=registered,
        c2w=c2w,
        frame_of=reconstruction.frame_of[seen],
        point_of=reconstruction.point_of[seen],
        pixels=reconstruction.pixels[seen],
    )
