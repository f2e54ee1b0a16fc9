"""Similarity, sharpness and contrast of pictures whose values can be worked out."""

import math

import pytest
import torch

from model.evaluation.video_quality import contrast, masked_psnr, sharpness, ssim_map


def test_ssim_of_known_pictures() -> None:
    noise = torch.randint(0, 256, (2, 20, 24, 3), dtype=torch.uint8)
    assert torch.allclose(ssim_map(noise, noise), torch.ones(2, 20, 24))
    a, b = (torch.full((20, 24, 3), value, dtype=torch.uint8) for value in (51, 153))
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert torch.allclose(ssim_map(a, b), torch.full((20, 24), expected), atol=1e-3)
    other = torch.randint(0, 256, (2, 20, 24, 3), dtype=torch.uint8)
    assert ssim_map(noise, other).mean().abs() < 0.1


def test_psnr_counts_only_the_mask() -> None:
    black = torch.zeros(4, 4, 3, dtype=torch.uint8)
    half = black.clone()
    half[:2] = 51
    mask = torch.zeros(4, 4, dtype=torch.bool)
    assert math.isnan(masked_psnr(black, half, mask))
    mask[:2] = True
    assert masked_psnr(black, half, mask) == pytest.approx(-20 * math.log10(0.2), abs=1e-4)
    assert masked_psnr(black, half, ~mask) == pytest.approx(100)


def test_sharpness_and_contrast_of_a_ramp() -> None:
    ramp = (torch.arange(16) * 10).view(1, 16, 1).expand(8, 16, 3).to(torch.uint8)
    assert float(sharpness(ramp)) == pytest.approx(10 / 255, abs=1e-5)
    assert float(contrast(ramp)) == pytest.approx(float((torch.arange(16) * 10 / 255).std(correction=0)), abs=1e-5)
