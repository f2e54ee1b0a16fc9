"""Where numbers are rounded: a network's own products, and nothing else that a world computes beside them."""

import pytest
import torch

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.precision import products_in_bfloat16

SHAPE = VideoDiTConfig(width=24, num_heads=2, num_blocks=2, ffn_dim=32, text_dim=16, freq_dim=8)


@torch.no_grad()
@pytest.mark.parametrize("is_bfloat16", [False, True])
def test_only_the_networks_products_are_rounded(is_bfloat16: bool) -> None:
    dit = VideoDiT(SHAPE)
    torch.nn.init.normal_(dit.head.linear.weight, std=0.1)
    inputs = (torch.randn(1, 16, 3, 4, 4), torch.tensor([0.4]))
    text, matrix = torch.randn(1, 5, 16), torch.randn(4, 4)
    exact, product = dit(*inputs, text), matrix @ matrix
    with products_in_bfloat16(dit, torch.device("cpu"), is_bfloat16):
        found, keys, beside = dit(*inputs, text), dit.encode_text(text), matrix @ matrix
    assert torch.equal(beside, product)
    assert torch.equal(found, exact) is not is_bfloat16
    assert (keys[0][0].dtype == torch.bfloat16) is is_bfloat16
    assert torch.equal(dit(*inputs, text), exact) and "forward" not in vars(dit)
