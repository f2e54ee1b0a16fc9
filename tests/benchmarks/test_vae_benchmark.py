"""Speed of the tiny autoencoder: the decoder of one environment step, one training step's forward and backward."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.vae.losses import vae_loss
from model.vae.video_vae import VideoVAE, VideoVAEConfig


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    config = VideoVAEConfig(
        base_dim=48,
        decoder_base_dim=64,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        decoder_num_res_blocks=1,
        temporal_downsample=[True, True],
        spatial_downsample=[True, False],
        temporal_kernels=[1, 3, 3],
        patch_size=4,
        linear_path=True,
    )
    return VideoVAE(config)


@torch.no_grad()
def test_decoding_the_four_latents_of_a_step(benchmark: BenchmarkFixture, vae: VideoVAE) -> None:
    latents = torch.randn(1, 16, 4, 6, 10)
    _, cache = vae.decode_chunk(latents[:, :, :1])
    frames, _ = benchmark(vae.decode_chunk, latents, cache)
    assert frames.shape == (1, 3, 16, 48, 80)


@torch.no_grad()
def test_encoding_a_first_frame(benchmark: BenchmarkFixture, vae: VideoVAE) -> None:
    assert benchmark(vae.encode, torch.zeros(1, 3, 1, 48, 80)).shape == (1, 16, 1, 6, 10)


def test_forward_and_backward_of_a_training_step(benchmark: BenchmarkFixture, vae: VideoVAE) -> None:
    video = torch.rand(4, 3, 9, 48, 80) * 2 - 1

    def step() -> None:
        reconstruction, mean, logvar = vae(video)
        vae_loss(reconstruction, video, mean, logvar)["loss"].backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)
