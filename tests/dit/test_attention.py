"""Whichever way attention is computed, it is the same function."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from model.dit.attention import attend_values


@pytest.fixture
def bfloat16_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("num_keys", [1, 24, 32, 33, 100])
def test_it_is_scaled_dot_product_attention(num_keys: int) -> None:
    query, key, value = torch.randn(2, 3, 40, 12), torch.randn(2, 3, num_keys, 12), torch.randn(2, 3, num_keys, 12)
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attend_values(query, key, value), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("bfloat16_products")
def test_bfloat16_products_are_near_and_return_float32_with_gradients() -> None:
    query, key, value = (torch.randn(2, 3, 50, 12, requires_grad=True) for _ in range(3))
    exact = torch.softmax(query.double() @ key.double().mT / 12**0.5, -1) @ value.double()
    (wanted,) = torch.autograd.grad(exact.square().sum(), query)
    mixed = attend_values(query, key, value)
    assert mixed.dtype == torch.float32
    # bfloat16 keeps 8 bits of scores, shares and values
    torch.testing.assert_close(mixed, exact.float(), rtol=0.05, atol=0.02)
    (got,) = torch.autograd.grad(mixed.square().sum(), query)
    torch.testing.assert_close(got, wanted, rtol=0.1, atol=0.05)
