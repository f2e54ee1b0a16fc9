"""Both implementations give the same GELU."""

import torch
import torch.nn.functional as F

from model.dit.blocks import gelu


def test_gelu_without_gradients_is_pytorchs_and_leaves_its_input_alone() -> None:
    x = torch.linspace(-12, 12, 1001)
    before, expected = x.clone(), F.gelu(x, approximate="tanh")
    with torch.no_grad():
        torch.testing.assert_close(gelu(x), expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(gelu(x), expected)
    assert torch.equal(x, before)
