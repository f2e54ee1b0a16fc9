"""Speed of the shipped autoencoder: the decoder of one environment step, one training step's forward and backward."""

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.vae.losses import vae_loss
from model.vae.video_vae import VideoVAE


@torch.no_grad()
def test_decoding_the_four_latents_of_a_step(benchmark: BenchmarkFixture, shipped_vae: VideoVAE) -> None:
    latents = torch.randn(1, 16, 4, 6, 10)
    _, cache = shipped_vae.decode_chunk(latents[:, :, :1])
    frames, _ = benchmark(shipped_vae.decode_chunk, latents, cache)
    assert frames.shape == (1, 3, 16, 48, 80)


@torch.no_grad()
def test_encoding_a_first_frame(benchmark: BenchmarkFixture, shipped_vae: VideoVAE) -> None:
    assert benchmark(shipped_vae.encode, torch.zeros(1, 3, 1, 48, 80)).shape == (1, 16, 1, 6, 10)


def test_forward_and_backward_of_a_training_step(benchmark: BenchmarkFixture, shipped_vae: VideoVAE) -> None:
    video = torch.rand(4, 3, 9, 48, 80) * 2 - 1

    def step() -> None:
        reconstruction, mean, logvar = shipped_vae(video)
        vae_loss(reconstruction, video, mean, logvar)["loss"].backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)
