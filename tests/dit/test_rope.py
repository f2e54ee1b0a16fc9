"""Rotary embedding: a rotation, relative, and the textbook formula."""

import pytest
import torch
from torch import Tensor

from model.dit.rope import rotary_table, rotate, split_head_dim


def test_wan_splits_its_heads_44_42_42() -> None:
    assert split_head_dim(128) == (44, 42, 42)


def test_pairs_turn_by_position_times_frequency() -> None:
    x = torch.randn(1, 2 * 3 * 4, 1, 12)
    turned = rotate(x, rotary_table(2, 3, 4, 12)).view(2, 3, 4, 6, 2)
    pairs = x.view(2, 3, 4, 6, 2)
    # channels 0-3: frame, 4-7: row, 8-11: column; the second pair of each turns at 10000 ** -0.5
    frame, row, column = 1, 2, 3
    for pair, angle in enumerate([frame, frame / 100, row, row / 100, column, column / 100]):
        a, b = pairs[frame, row, column, pair].tolist()
        c, s = torch.tensor(float(angle)).cos().item(), torch.tensor(float(angle)).sin().item()
        expected = torch.tensor([a * c - b * s, a * s + b * c])
        torch.testing.assert_close(turned[frame, row, column, pair], expected, rtol=1e-5, atol=1e-6)


def test_length_is_kept_and_the_first_token_unmoved() -> None:
    x = torch.randn(2, 24, 3, 16)
    turned = rotate(x, rotary_table(2, 3, 4, 16))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_depend_on_offsets_only(axis: int) -> None:
    query, key = torch.randn(2, 16).double().float()
    table = rotary_table(4, 4, 4, 16)
    grid = rotate(query.expand(1, 64, 1, 16), table).view(4, 4, 4, 16).transpose(0, axis)
    keys = rotate(key.expand(1, 64, 1, 16), table).view(4, 4, 4, 16).transpose(0, axis)
    near, far = grid[0, 1, 2] @ keys[1, 1, 2], grid[2, 1, 2] @ keys[3, 1, 2]
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)


def test_a_token_keeps_its_place_in_the_picture_on_a_finer_grid() -> None:
    query, key = torch.randn(2, 16)
    coarse = rotary_table(2, 3, 4, 16)
    fine = rotary_table(2, 6, 8, 16, scale=(1.0, 0.5, 0.5))

    def logits(table: Tensor) -> Tensor:
        return torch.einsum("nkc,mkc->nm", *(rotate(x.expand(1, len(table), 1, 16), table)[0] for x in (query, key)))

    same_places = torch.arange(2 * 6 * 8).view(2, 6, 8)[:, ::2, ::2].flatten()
    torch.testing.assert_close(logits(fine)[same_places][:, same_places], logits(coarse))
    unscaled = logits(rotary_table(2, 6, 8, 16))[same_places][:, same_places]
    assert (unscaled - logits(coarse)).abs().max() > 0.1  # without the scale the places are others


def test_gradient_is_the_rotation_back() -> None:
    x = torch.randn(1, 24, 2, 12, requires_grad=True)
    table = rotary_table(2, 3, 4, 12)
    upstream = torch.randn(1, 24, 2, 12)
    (rotate(x, table) * upstream).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(rotate(x.grad, table), upstream, rtol=1e-5, atol=1e-6)


def test_sixteen_bit_inputs_keep_their_type() -> None:
    assert rotate(torch.randn(1, 24, 2, 12).bfloat16(), rotary_table(2, 3, 4, 12)).dtype == torch.bfloat16
