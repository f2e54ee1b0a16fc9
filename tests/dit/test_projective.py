"""Relative projective encoding: attention knows how one camera maps to another, and nothing of the world frame."""

import pytest
import torch
from torch import Tensor

from model.dit.attention import Attention
from model.dit.projective import num_projective_channels, projective_encoding, transform
from model.dit.rope import rotary_table
from model.geometry import se3
from model.geometry.camera import projection_matrix

HEAD_DIM, FRAMES, TOKENS = 12, 3, 6


def cameras(batch: int = 2, frames: int = FRAMES, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    poses = se3.exp(0.7 * torch.randn(batch, frames, 6, generator=generator))
    return projection_matrix(poses, torch.tensor([[0.65, 1.1, 0.5, 0.5]]).expand(batch, 4))


def attend(projection: Tensor | None, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    attention = Attention(2 * HEAD_DIM, 2, 1e-6)
    rotary = rotary_table(FRAMES, 1, TOKENS // FRAMES, HEAD_DIM, num_still=num_projective_channels(HEAD_DIM))
    encoding = None if projection is None else projective_encoding(projection, HEAD_DIM)
    return attention(x, x, rotary, encoding)


@torch.no_grad()
def test_attention_does_not_depend_on_the_world_frame() -> None:
    x, projection = torch.randn(2, TOKENS, 2 * HEAD_DIM), cameras()
    moved = projection @ se3.exp(torch.tensor([0.5, -0.2, 1.0, 0.1, 0.8, -0.3]))
    torch.testing.assert_close(attend(moved, x), attend(projection, x), rtol=1e-3, atol=1e-4)
    assert (attend(projection, x) - attend(None, x)).abs().max() > 0.05  # but on how the cameras lie to each other


@torch.no_grad()
def test_equal_cameras_are_no_cameras() -> None:
    x = torch.randn(2, TOKENS, 2 * HEAD_DIM)
    same = cameras(frames=1).expand(2, FRAMES, 4, 4)
    torch.testing.assert_close(attend(same, x), attend(None, x), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_it_is_the_papers_formula_spelled_out_by_pairs() -> None:
    """score = q_i^T (P_i P_j^-1) k_j and sum_j a_ij (P_i P_j^-1) v_j in the first half, plain in the second."""
    projection, c = cameras(1), num_projective_channels(HEAD_DIM)
    q, k, v = torch.randn(3, FRAMES, HEAD_DIM)
    encoding = projective_encoding(projection, HEAD_DIM)
    rows = [x.view(1, FRAMES, 1, HEAD_DIM) for x in (q, k, v)]
    query = transform(rows[0], encoding.query)[0, :, 0]
    key, value = (transform(x, encoding.key_value)[0, :, 0] for x in rows[1:])
    weights = (query @ key.T).softmax(-1)
    output = transform((weights @ value).view(1, FRAMES, 1, HEAD_DIM), encoding.output)[0, :, 0]
    for i in range(FRAMES):
        pairs = [projection[0, i] @ projection[0, j].inverse() for j in range(FRAMES)]
        wide = [torch.block_diag(*[pair] * (c // 4), torch.eye(HEAD_DIM - c)) for pair in pairs]
        scores = torch.stack([q[i] @ wide[j] @ k[j] for j in range(FRAMES)])
        expected = sum(w * (wide[j] @ v[j]) for j, w in enumerate(scores.softmax(0)))
        torch.testing.assert_close(output[i], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("head_dim", "channels"), [(48, 24), (128, 64), (12, 4), (24, 12)])
def test_half_of_the_channels_in_fours(head_dim: int, channels: int) -> None:
    assert num_projective_channels(head_dim) == channels
