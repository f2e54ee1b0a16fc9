"""Twenty steps of every training step give the losses that they gave when this file was written.

A change of behaviour that no other test names shows here. The tolerance is for processors: another order of float32
sums differs by about 1e-7, and twenty steps of AdamW, which divides by the gradients' size, make up to 1e-4 of it.
A wrong sign, weight, schedule or draw changes the losses by more than a hundredth.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.data.video_io import to_uint8
from model.diffusion.timesteps import sampling_schedule
from model.distillation.progressive import ProgressiveStep, StepPlan
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.geometry import se3
from model.training.decoder_step import ClipBatch, DecoderStep
from model.training.depth_step import DepthPairs, DepthStep
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.training.vae_step import VAEStep
from model.training.windows import LatentBatch, WindowSampler
from model.vae.latent_depth import LatentDepth, LatentDepthConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig

TOLERANCE = 2e-3
# losses of steps 1, 2, 5, 10, 20
KEPT = (0, 1, 4, 9, 19)
GOLDEN = {
    "vae": [1.49089, 1.48124, 1.44466, 1.37749, 1.31492],
    "flow_matching": [2.29895, 2.31233, 2.1904, 1.99439, 2.00632],
    "progressive": [0.00221377, 0.00146513, 0.00187374, 0.000780912, 0.000503427],
    "decoder": [0.33221, 0.32865, 0.315105, 0.288813, 0.265893],
    "depth": [0.547239, 0.567394, 0.524075, 0.519514, 0.51658],
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def poses(b: int, f: int) -> Tensor:
    twists = 0.2 * torch.randn(b, f, 6, generator=generator(1))
    return torch.stack([se3.exp(twists[:, :k].sum(1)) for k in range(f)], 1)


INTRINSICS = torch.tensor([0.6, 1.0, 0.5, 0.5])


def small_dit() -> VideoDiT:
    torch.manual_seed(3)
    sizes = {"in_channels": 4, "out_channels": 4, "width": 24, "num_heads": 2, "num_blocks": 2, "ffn_dim": 48}
    dit = VideoDiT(VideoDiTConfig(**sizes, text_dim=8, freq_dim=8, patch_size=[1, 1, 1], camera_attention=True))
    nn.init.normal_(dit.head.linear.weight, std=0.1)
    return dit


def small_vae() -> VideoVAE:
    torch.manual_seed(4)
    return VideoVAE(
        VideoVAEConfig(latent_channels=4, base_dim=4, dim_mult=[1, 2], num_res_blocks=1, temporal_downsample=[True],
                       spatial_downsample=[True], patch_size=4, linear_path=True)
    )  # fmt: skip


def latent_batch() -> LatentBatch:
    return LatentBatch(
        latents=torch.randn(6, 4, 9, 4, 6, generator=generator(2)),
        c2w=poses(6, 9),
        intrinsics=INTRINSICS.expand(6, 4),
        text=torch.randn(6, 3, 8, generator=generator(3)),
        labelled=torch.arange(6) % 3 != 0,
    )


def film_batch() -> ClipBatch:
    frames = torch.rand(2, 3, 5, 16, 24, generator=generator(5)) * 2 - 1
    return ClipBatch(to_uint8(frames), poses(2, 3), INTRINSICS.expand(2, 4), torch.zeros(2, 3, 8))


NULL_TEXT = torch.zeros(3, 8)


def window_config() -> FlowMatchingConfig:
    return FlowMatchingConfig(context_shares={0: 0.3, 1: 0.3, 4: 0.4}, memory_latents=2, context_noise=0.3)


def vae_case() -> tuple[Any, nn.Module, Any]:
    return VAEStep(gradient_weight=0.5), small_vae(), film_batch().frames


def flow_matching_case() -> tuple[Any, nn.Module, Any]:
    return FlowMatchingStep(window_config(), NULL_TEXT), small_dit(), latent_batch()


def progressive_case() -> tuple[Any, nn.Module, Any]:
    teacher = small_dit().requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    plan = StepPlan(teacher_steps=4, student_steps=2, shift=3.0)
    return ProgressiveStep(WindowSampler(window_config(), NULL_TEXT), teacher, plan, plan), student, latent_batch()


def decoder_case() -> tuple[Any, nn.Module, Any]:
    vae = small_vae()
    vae.encoder.requires_grad_(False)
    step = DecoderStep(dit=small_dit().requires_grad_(False), schedule=sampling_schedule(4, 3.0))
    return step, vae, film_batch()


def depth_case() -> tuple[Any, nn.Module, Any]:
    torch.manual_seed(6)
    depth = 1 + 9 * torch.rand(3, 5, 8, 12, generator=generator(7))
    latents = torch.randn(3, 4, 5, 4, 6, generator=generator(8))
    pairs = DepthPairs(latents, poses(3, 5), depth, INTRINSICS, batch_size=4, seed=0)
    return DepthStep(), LatentDepth(LatentDepthConfig(latent_channels=4, width=16, num_blocks=1, cells=2)), pairs


CASES: dict[str, Callable[[], tuple[Any, nn.Module, Any]]] = {
    "vae": vae_case,
    "flow_matching": flow_matching_case,
    "progressive": progressive_case,
    "decoder": decoder_case,
    "depth": depth_case,
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_the_golden_ones(name: str) -> None:
    step, module, batches = CASES[name]()
    losses: list[float] = []

    def recorded(module: nn.Module, batch: Any, random: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = step(module, batch, random)
        losses.append(loss.item())
        return loss, metrics

    optimizers = build_optimizers(module, OptimizerConfig(lr=3e-3, muon=name in ("flow_matching", "progressive")))
    state = TrainState(module=module, optimizers=optimizers, seed=5)
    source = batches if callable(batches) else lambda step, micro: batches
    fit(
        recorded, state, source, num_steps=20, config=FitConfig(schedule=ScheduleConfig(warmup_steps=4), progress=False)
    )
    assert [losses[k] for k in KEPT] == pytest.approx(GOLDEN[name], rel=TOLERANCE)
