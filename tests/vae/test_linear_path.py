"""The linear path starts at the principal components, and the network starts as nothing on top of it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.vae.video_vae import VideoVAE, VideoVAEConfig

CONFIG = VideoVAEConfig(
    latent_channels=8,
    base_dim=8,
    dim_mult=[1, 1, 1],
    num_res_blocks=1,
    temporal_downsample=[True, True],
    spatial_downsample=[True, False],
    patch_size=4,
    linear_path=True,
)


def smooth_clips(seed: int = 0) -> Tensor:
    coarse = torch.randn(6, 3, 4, 4, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (9, 32, 48), mode="trilinear").clamp(-1, 1)


def initialised() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(CONFIG)
    vae.init_linear_path_from_pca(smooth_clips())
    return vae.requires_grad_(False)


def test_at_the_start_the_error_is_that_of_the_principal_components() -> None:
    clips = smooth_clips()
    rest = clips[:, :, 1:].reshape(6, 3, 2, 4, 4, 8, 6, 8).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, 768)
    left_over = torch.linalg.svdvals((rest - rest.mean(0)).double())[8:].square().sum() / rest.numel()
    vae = initialised()
    error = (vae.decode(vae.encode(clips)) - clips)[:, :, 1:].square().mean()
    torch.testing.assert_close(error, left_over.float(), rtol=1e-3, atol=1e-7)


def test_latents_start_white() -> None:
    latents = initialised().encode(smooth_clips())[:, :, 1:].transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(8), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.cov(latents), torch.eye(8), rtol=0, atol=1e-2)


def test_the_first_latent_of_a_still_clip_resembles_the_next_ones() -> None:
    still = smooth_clips()[:, :, :1].expand(-1, -1, 5, -1, -1)
    latents = initialised().encode(still)
    similarity = F.cosine_similarity(latents[:, :, 0].flatten(), latents[:, :, 1].flatten(), dim=0)
    assert similarity > 0.6  # of two unrelated codes: 0


def test_one_training_step_moves_the_network_away_from_nothing() -> None:
    vae = initialised().requires_grad_(True)
    clips = smooth_clips(1)
    before, _, _ = vae(clips)
    (before - clips).square().mean().backward()
    assert vae.decoder.conv_out.weight.grad is not None and vae.decoder.conv_out.weight.grad.any()
    assert vae.encoder.conv_out.weight.grad is not None and not vae.encoder.conv_in.weight.grad.any()


def test_without_a_linear_path_there_is_nothing_to_initialise() -> None:
    with pytest.raises(ValueError, match="linear_path: expected true"):
        VideoVAE(VideoVAEConfig(base_dim=8, num_res_blocks=0)).init_linear_path_from_pca(torch.zeros(1, 3, 5, 16, 16))


def test_the_residual_scale_weighs_the_network_against_the_linear_path() -> None:
    vae = initialised()
    latents = torch.randn(1, 8, 2, 4, 6)
    linear = vae.decode(latents)
    torch.nn.init.normal_(vae.decoder.conv_out.weight)
    full = vae.decode(latents) - linear
    vae.config = replace(CONFIG, residual_scale=0.1)
    torch.testing.assert_close(vae.decode(latents) - linear, 0.1 * full, rtol=1e-4, atol=1e-5)


def test_a_residual_scale_without_a_linear_path_is_refused() -> None:
    with pytest.raises(ValueError, match="residual_scale"):
        VideoVAE(VideoVAEConfig(residual_scale=0.1))
