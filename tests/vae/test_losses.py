"""Losses have the values that their formulas give."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from model.vae.losses import charbonnier, gradient_difference, kl_to_unit_gaussian, vae_loss


def test_kl_is_torchs() -> None:
    mean, logvar = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_to_unit_gaussian(mean, logvar), expected)


def test_charbonnier_is_l1_far_from_zero_and_smooth_at_zero() -> None:
    torch.testing.assert_close(charbonnier(torch.tensor([-2.0, 2.0])), torch.tensor(2.0), rtol=0, atol=1e-3)
    zero = torch.zeros(3, requires_grad=True)
    charbonnier(zero).backward()
    assert charbonnier(zero) == 0 and not zero.grad.any()


def test_gradient_difference_ignores_a_constant_and_sees_an_edge() -> None:
    video = torch.zeros(1, 3, 1, 4, 4)
    edge = video.clone()
    edge[..., 2:] = 1.0
    assert gradient_difference(video + 0.3, video) == 0
    # one of three horizontal differences is 1
    assert gradient_difference(edge, video) == pytest.approx(1 / 3)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    video, reconstruction = torch.randn(2, 1, 3, 5, 4, 4)
    mean, logvar = torch.randn(2, 1, 4, 2, 2, 2)
    weights = {"l1": 0.5, "kl": 0.1, "gradient": 0.3}
    terms = vae_loss(reconstruction, video, mean, logvar, **{f"{name}_weight": w for name, w in weights.items()})
    torch.testing.assert_close(terms["loss"], terms["mse"] + sum(weights[name] * terms[name] for name in weights))
    assert "gradient" not in vae_loss(reconstruction, video, mean, logvar)
