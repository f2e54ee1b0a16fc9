"""Relative projective encoding of cameras: the attention between two tokens depends on both their cameras.

The paper's Plucker tokens encode where each camera is in the world. This encodes how one camera maps to another, in
attention. Half of each head's channels are points in projective space, in groups of four: with P_i the world-to-image
matrix of the query's frame and P_j that of the key's,

    score = q_i^T (P_i P_j^-1) k_j,    output = sum_j a_ij (P_i P_j^-1) v_j,

which does not change when the world frame does, however far the episode has gone from its start.

Source: Li et al. 2025, "Cameras as Relative Positional Encoding" (PRoPE); the other half of the channels keeps Wan's
rotary embedding instead of theirs over image coordinates. Not in the paper.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class ProjectiveEncoding(NamedTuple):
    """Matrices that rows of queries, of keys and values, and of outputs are multiplied by from the right, per frame."""

    query: Float[Tensor, "b f c c"]
    key_value: Float[Tensor, "b f c c"]
    output: Float[Tensor, "b f c c"]


def num_projective_channels(head_dim: int) -> int:
    """Channels of one head that are points in projective space: half of them, in groups of four."""
    return head_dim // 2 // 4 * 4


def projective_encoding(
    projection: Float[Tensor, "b f 4 4"], head_dim: int, num_channels: int | None = None
) -> ProjectiveEncoding:
    """The matrices of every frame, float32: P on each group of four of the first channels, the identity on the others.

    Args:
        projection: World to image, `model.geometry.camera.projection_matrix`; identities are the null camera.
        head_dim: Channels of one head.
        num_channels: How many of them are points, a multiple of four; `num_projective_channels` by default.
    """
    groups = (num_projective_channels(head_dim) if num_channels is None else num_channels) // 4

    def widen(matrix: Tensor) -> Tensor:
        wide = torch.eye(head_dim, dtype=matrix.dtype, device=matrix.device).repeat(*matrix.shape[:2], 1, 1)
        for first in range(0, 4 * groups, 4):
            wide[..., first : first + 4, first : first + 4] = matrix
        return wide

    projection = projection.float()
    inverse = torch.linalg.inv(projection)
    return ProjectiveEncoding(widen(projection), widen(inverse.mT), widen(projection.mT))


def transform(x: Float[Tensor, "b n k c"], matrices: Float[Tensor, "b f c c"]) -> Float[Tensor, "b n k c"]:
    """Every token times the matrix of its frame; tokens are ordered by frame."""
    b, n, k, c = x.shape
    return (x.reshape(b, matrices.shape[1], -1, c) @ matrices.type_as(x)).view(b, n, k, c)
