"""Patchify is a strided convolution, unpatchify its inverse layout; sinusoids as in the first diffusion papers."""

import math

import pytest
import torch
from torch.nn import functional as F

from model.dit.camera_embed import CameraEmbedding, fourier_features
from model.dit.embeddings import Patchify, TimestepEmbedding, sinusoids, unpatchify


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 3), (1, 1, 1)])
def test_patchify_is_the_strided_convolution(patch: tuple[int, int, int]) -> None:
    layer = Patchify(3, 8, patch)
    torch.nn.init.normal_(layer.weight)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 6, 6)
    expected = F.conv3d(x, layer.weight, layer.bias, stride=patch).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_unpatchify_returns_every_pixel_to_its_place() -> None:
    x = torch.arange(2 * 3 * 4 * 6 * 4).float().view(2, 3, 4, 6, 4)
    patches = x.view(2, 3, 2, 2, 3, 2, 2, 2).permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(2, 2, 3 * 2, 2 * 2 * 2 * 3)
    assert torch.equal(unpatchify(patches, (2, 2, 2), height=6), x)


def test_sinusoids_are_cosines_then_sines_from_1_to_almost_1_over_10000() -> None:
    waves = sinusoids(torch.tensor([0.0, 700.0]), 4)
    assert torch.equal(waves[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    expected = torch.tensor([math.cos(700.0), math.cos(7.0), math.sin(700.0), math.sin(7.0)])
    torch.testing.assert_close(waves[1], expected, rtol=1e-5, atol=1e-4)


def test_time_runs_from_0_to_1000_inside() -> None:
    layer = TimestepEmbedding(8, 4)
    embedding, modulation = layer(torch.tensor([[0.25]]))
    inside = layer.linear_2(F.silu(layer.linear_1(sinusoids(torch.tensor([[250.0]]), 8))))
    torch.testing.assert_close(embedding, inside)
    assert modulation.shape == (1, 1, 6, 4)


def test_camera_layer_starts_at_zero_and_maps_the_zero_map_to_zero() -> None:
    layer = CameraEmbedding(8, (1, 2, 2))
    plucker = torch.randn(2, 3, 6, 4, 4)
    assert layer(plucker).abs().max() == 0
    torch.nn.init.normal_(layer.patchify.weight)
    assert layer(torch.zeros_like(plucker)).abs().max() == 0
    assert layer(plucker).shape == (2, 3, 4, 8)


def test_camera_token_sees_its_own_frame_and_patch_only() -> None:
    layer = CameraEmbedding(8, (1, 2, 2))
    torch.nn.init.normal_(layer.patchify.weight)
    plucker = torch.randn(1, 3, 6, 4, 4)
    moved = plucker.clone()
    moved[0, 1, :, 2, 3] += 1
    changed = (layer(moved) - layer(plucker)).abs().amax(-1)[0] > 0
    assert changed.nonzero().tolist() == [[1, 3]]  # frame 1, second row of patches, second column


def test_waves_separate_neighbouring_rays_and_leave_the_null_camera_zero() -> None:
    layer = CameraEmbedding(8, (1, 1, 1), init_std=1.0, num_frequencies=4)
    assert layer.patchify.weight.shape == (8, 54, 1, 1, 1)
    assert not layer(torch.zeros(1, 2, 6, 3, 5)).any()
    ray = torch.zeros(1, 1, 6, 1, 1)
    ray[0, 0, 5] = 1.0
    turned = ray.clone()
    turned[0, 0, 3], turned[0, 0, 5] = 0.13, 0.9915  # 7.5 degrees, two tokens of the tiny world apart
    plain = (turned - ray).norm() / ray.norm()
    embedded = [torch.cat([m, *fourier_features(m, 4)], dim=1) for m in (ray.transpose(1, 2), turned.transpose(1, 2))]
    assert (embedded[1] - embedded[0]).norm() / embedded[0].norm() > 2 * plain
