"""Similarity, sharpness and contrast of pictures whose values can be worked out."""

import math

import pytest
import torch

from model.evaluation.fidelity import Regions, fidelity_per_clip
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


def test_ratios_of_sharpness_and_contrast_of_a_dimmed_and_of_a_softened_step() -> None:
    truth = torch.zeros(1, 5, 8, 8, 3, dtype=torch.uint8)
    truth[:, :, :, 4:] = 200
    nothing = torch.ones(1, 5, 8, 8, dtype=torch.bool)
    regions = Regions(nothing, nothing, ~nothing, ~nothing)
    dimmed = (truth.float() / 2).byte()
    soft = truth.clone()
    soft[:, :, :, 3], soft[:, :, :, 4] = 67, 133  # the same step over three pixels: as long a gradient, less contrast
    assert fidelity_per_clip(dimmed, truth, regions, 4)["contrast_ratio"] == [0.5]
    assert fidelity_per_clip(dimmed, truth, regions, 4)["sharpness_ratio"] == [0.5]
    rows = fidelity_per_clip(soft, truth, regions, 4)
    assert rows["sharpness_ratio"] == [pytest.approx(1.0, abs=0.01)]
    assert rows["contrast_ratio"][0] is not None and rows["contrast_ratio"][0] < 0.95


def test_the_squared_error_is_shared_out_among_the_kinds_of_pixels() -> None:
    truth = torch.full((1, 5, 4, 4, 3), 100, dtype=torch.uint8)
    row = torch.arange(4).view(4, 1).expand(1, 5, 4, 4)
    regions = Regions(row < 1, row < 2, row == 2, row == 3)  # 8, 4 and 4 pixels of each frame
    off = truth + torch.tensor([10, 10, 20, 0], dtype=torch.uint8).view(1, 1, 4, 1, 1)
    rows = fidelity_per_clip(off, truth, regions, 4)
    assert [rows[f"error_{kind}"] for kind in ("seen", "revealed", "moving")] == [[0.3333], [0.6667], [0.0]]
    assert fidelity_per_clip(truth, truth, regions, 4)["error_seen"] == [None]
