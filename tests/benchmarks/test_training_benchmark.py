"""One update of the tiny DiT against its floor, its FLOPs at the matrix-product rate; and what Muon takes of it."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.ema import ExponentialMovingAverage
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, build_optimizers, orthogonalize
from model.training.state import TrainState
from model.training.windows import LatentBatch

ROWS, FRAMES, HEIGHT, WIDTH, TEXT_TOKENS = 32, 13, 6, 10, 24


def _tiny_state(muon: bool) -> TrainState:
    dit = VideoDiT(VideoDiTConfig(width=192, num_heads=4, num_blocks=8, ffn_dim=768, text_dim=64, freq_dim=128))
    optimizers = build_optimizers(dit, OptimizerConfig(muon=muon))
    return TrainState(module=dit, optimizers=optimizers, ema=ExponentialMovingAverage(dit))


def _batch(step: int, micro: int) -> LatentBatch:
    return LatentBatch(
        latents=torch.randn(ROWS, 16, FRAMES, HEIGHT, WIDTH),
        c2w=torch.eye(4).repeat(ROWS, FRAMES, 1, 1),
        intrinsics=torch.tensor([0.65, 1.1, 0.5, 0.5]).repeat(ROWS, 1),
        text=torch.randn(ROWS, TEXT_TOKENS, 64),
        labelled=torch.ones(ROWS, dtype=torch.bool),
    )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_update(benchmark: BenchmarkFixture, optimizer: str, matrix_product_rate: Callable[[], float]) -> None:
    state = _tiny_state(muon=optimizer == "muon")
    step = FlowMatchingStep(FlowMatchingConfig(context_shares={5: 1.0}), torch.zeros(TEXT_TOKENS, 64))

    def update() -> None:
        fit(step, state, _batch, num_steps=state.step + 1, config=FitConfig(progress=False))

    update()  # the optimisers' buffers
    benchmark.pedantic(update, rounds=3)
    rate = matrix_product_rate()
    assert isinstance(state.module, VideoDiT)
    flops = 3 * ROWS * state.module.flops(9, HEIGHT, WIDTH, TEXT_TOKENS)
    benchmark.extra_info |= {
        "gflops_per_second": round(flops / benchmark.stats.stats.min / 1e9, 1),
        "matrix_product_gflops_per_second": round(rate / 1e9, 1),
        "ratio_to_floor": round(benchmark.stats.stats.min * rate / flops, 2),
    }


@pytest.mark.parametrize("shape", [(64, 192, 192), (8, 768, 192)], ids=["square", "wide"])
def test_orthogonalize(benchmark: BenchmarkFixture, shape: tuple[int, int, int]) -> None:
    benchmark(orthogonalize, torch.randn(shape))
