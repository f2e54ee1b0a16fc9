"""The VAE's step is its losses on a sample of the posterior, and it learns."""

import pytest
import torch
from torch import Tensor

from model.data.video_io import to_uint8
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.training.vae_step import VAEStep
from model.vae.video_vae import VideoVAE, VideoVAEConfig


def small_vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(
        VideoVAEConfig(latent_channels=4, base_dim=4, dim_mult=[1, 2], num_res_blocks=1, temporal_downsample=[True],
                       spatial_downsample=[True], patch_size=2)
    )  # fmt: skip


def video() -> Tensor:
    rows, columns = torch.linspace(-1, 1, 8)[:, None], torch.linspace(-1, 1, 8)
    return to_uint8(rows * columns * torch.linspace(0.2, 1, 2 * 3 * 3).view(2, 3, 3, 1, 1))


def test_loss_is_the_weighted_sum_of_its_terms_and_psnr_is_of_the_mean_square() -> None:
    step = VAEStep(l1_weight=2.0, kl_weight=0.5, gradient_weight=0.25)
    loss, terms = step(small_vae(), video(), torch.Generator().manual_seed(1))
    expected = 2 * terms["l1"] + terms["mse"] + 0.5 * terms["kl"] + 0.25 * terms["gradient"]
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    assert float(terms["psnr"]) == pytest.approx(float(10 * torch.log10(4 / torch.as_tensor(terms["mse"]))), rel=1e-5)


def test_the_posterior_is_sampled_by_the_generator() -> None:
    vae, step = small_vae(), VAEStep()
    losses = [step(vae, video(), torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_reconstruction_improves() -> None:
    vae = small_vae()
    seen: list[float] = []
    stage = VAEStep(kl_weight=0.0)

    def step(
        module: torch.nn.Module, batch: Tensor, random: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, terms = stage(module, batch, random)
        seen.append(float(terms["psnr"]))
        return loss, terms

    state = TrainState(module=vae, optimizers=build_optimizers(vae, OptimizerConfig(lr=1e-2, muon=False)))
    settings = FitConfig(schedule=ScheduleConfig(warmup_steps=2), progress=False)
    fit(step, state, lambda step, micro: video(), num_steps=25, config=settings)
    assert seen[-1] > seen[0] + 3
