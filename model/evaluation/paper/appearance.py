"""Appearance consistency: how much the clips of one scene look alike to a network.

Source: the paper, Sec. 4.2: cosine between the clips' mean features.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor


def cut_into_clips(num_frames: int, frames_per_clip: int) -> list[slice]:
    """Returns the clips of a film, of equal length: all whole clips if there are two or more, else two halves.

    The frames after the last whole clip belong to no clip. A single frame is one clip.
    """
    if num_frames < 2:
        return [slice(0, num_frames)]
    length = frames_per_clip if num_frames >= 2 * frames_per_clip else num_frames // 2
    return [slice(begin, begin + length) for begin in range(0, num_frames - length + 1, length)]


def consistency(clips: Sequence[Float[Tensor, " d"]]) -> float | None:
    """Returns the mean cosine over all pairs of clips of one scene; None for fewer than two clips."""
    pairs = [float(torch.cosine_similarity(one, other, dim=0)) for one, other in combinations(clips, 2)]
    return sum(pairs) / len(pairs) if pairs else None
