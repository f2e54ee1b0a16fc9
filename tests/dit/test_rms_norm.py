"""The written-out RMSNorm is PyTorch's, with first and second derivatives."""

import torch
from torch.nn import functional as F

from model.dit.rms_norm import RMSNorm, _RMSNorm


def test_value_and_gradients_are_those_of_pytorch() -> None:
    norm = RMSNorm(12, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    x, upstream = torch.randn(2, 5, 12, requires_grad=True), torch.randn(2, 5, 12)
    expected = F.rms_norm(x, (12,), norm.weight, 1e-6)
    torch.testing.assert_close(norm(x), expected)
    theirs = torch.autograd.grad(expected, (x, norm.weight), upstream)
    ours = torch.autograd.grad(norm(x), (x, norm.weight), upstream)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_derivatives_agree_with_finite_differences() -> None:
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: _RMSNorm.apply(a, b, 1e-6), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: _RMSNorm.apply(a, b, 1e-6), (x, weight))


def test_sixteen_bit_inputs_keep_their_type() -> None:
    assert RMSNorm(8, eps=1e-6).bfloat16()(torch.randn(2, 8).bfloat16()).dtype == torch.bfloat16
