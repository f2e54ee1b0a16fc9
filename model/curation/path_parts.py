"""Splits a path where a step is wrong, finds frames at a wrong place, and compares two solutions of a part."""

import dataclasses
from itertools import pairwise

import torch
from jaxtyping import Bool
from torch import Tensor

from model.estimators.sfm import Reconstruction
from model.geometry import se3
from model.geometry.alignment import rotation_error_deg, trajectory_errors

MAX_TURN_DEG = 1.0  # of the mean turn
MAX_PATH_ERROR = 0.02  # of the path's length
MAX_FOCAL_ERROR = 0.05  # of the focal length
MAX_LENS_OF_HALF = 0.1  # in correct clips of 40 frames, the focal length of a half was off by up to 8 %


def path_parts(known: Bool[Tensor, " f"], off: Bool[Tensor, " f"], max_gap: int) -> list[list[int]]:
    """Returns the frames with a pose, split where the step between two of them is off, or has a long gap.

    Args:
        known: Frames with a pose.
        off: Whether the step to this frame from the last frame with a pose is wrong.
        max_gap: Most successive frames without a pose inside a step.
    """
    frames = known.nonzero()[:, 0].tolist()
    parts = [frames[:1]] if frames else []
    for before, after in pairwise(frames):
        if off[after] or after - before - 1 > max_gap:
            parts.append([])
        parts[-1].append(after)
    return parts


def outlier_frames(parts: list[list[int]], most: int) -> list[int]:
    """Returns the frames of parts so short that they are mistakes: at most `most` frames between two other parts."""
    return [frame for part in parts[1:-1] if len(part) <= most for frame in part]


def without_frames(reconstruction: Reconstruction, frames: list[int]) -> Reconstruction:
    """Returns the reconstruction without these frames' poses and observations; its points stay."""
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


def difference(whole: Reconstruction, again: Reconstruction, first: int, max_lens: float = MAX_FOCAL_ERROR) -> str:
    """Returns how two solutions of the same frames differ; empty if lens and path agree.

    Args:
        whole: Solution of a clip.
        again: Solution of a part of it, solved separately.
        first: The clip's frame that is the part's first.
        max_lens: Share by which their focal lengths may differ.

    Source: ours, because mistakes of structure from motion change with its input frames, and the truth does not.
    """
    both = whole.registered[first : first + len(again.registered)] & again.registered
    one, other = whole.c2w[first : first + len(both)][both], again.c2w[both]
    lens = abs(float(again.intrinsics[0] / whole.intrinsics[0]) - 1)
    turn = float(rotation_error_deg(se3.relative(one[:1], one), se3.relative(other[:1], other)).mean())
    length = float(one[:, :3, 3].diff(dim=0).norm(dim=-1).sum())
    way = trajectory_errors(other, one).trans_err / max(length, 1e-9)
    if lens <= max_lens and turn <= MAX_TURN_DEG and way <= MAX_PATH_ERROR:
        return ""
    return (
        f"frames {first} to {first + len(both) - 1}, solved apart, differ: focal length by {100 * lens:.0f} %, "
        f"turns by {turn:.1f} degrees, path by {100 * way:.1f} % of its length"
    )
