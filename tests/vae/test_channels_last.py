"""Weights with the channels innermost: the same results, and no activation leaves that format between convolutions."""

import copy

import pytest
import torch
from torch import Tensor, nn

from model.vae.blocks import ResidualBlock, Upsample
from model.vae.causal import memory_format_of
from model.vae.video_vae import VideoVAE, VideoVAEConfig

CONFIGS = {
    "2.1": VideoVAEConfig(latent_channels=4, base_dim=8, num_res_blocks=1),
    "2.2": VideoVAEConfig(
        latent_channels=4, base_dim=8, num_res_blocks=1, patch_size=2, is_residual=True, dim_mult=[1, 2, 2, 2]
    ),
}


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 2])  # on the CPU, one row takes another path
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_results_are_the_same_chunk_by_chunk_and_caches_keep_their_format(config: VideoVAEConfig, batch: int) -> None:
    plain = VideoVAE(config).eval()
    ours = copy.deepcopy(plain)
    ours.use_channels_last()
    stride = plain.spatial_stride
    video = torch.rand(batch, 3, 13, 2 * stride, 3 * stride) * 2 - 1
    latents = plain.encode(video)
    torch.testing.assert_close(ours.encode(video), latents, rtol=1e-4, atol=1e-5)
    cache = before = None
    for part in latents.split([1, 1, 2], dim=2):
        frames, cache = ours.decode_chunk(part, cache)
        expected, before = plain.decode_chunk(part, before)
        torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-5)
        assert all(cache[key].is_contiguous() and cache[key].shape == before[key].shape for key in before)


@torch.inference_mode()
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_block_passes_the_format_on(config: VideoVAEConfig) -> None:
    vae, formats = VideoVAE(config).eval(), []

    def note(module: nn.Module, arguments: tuple[object, ...], result: Tensor) -> None:
        formats.append(memory_format_of(result))

    blocks = [block for block in vae.modules() if isinstance(block, ResidualBlock | Upsample)]
    for block in blocks:
        block.register_forward_hook(note)
    video = torch.rand(2, 3, 9, 2 * vae.spatial_stride, 2 * vae.spatial_stride)
    vae.decode(vae.encode(video))
    assert torch.channels_last_3d not in formats and len(formats) == len(blocks)
    formats.clear()
    vae.use_channels_last()
    vae.decode(vae.encode(video))
    assert formats == [torch.channels_last_3d] * len(blocks)
