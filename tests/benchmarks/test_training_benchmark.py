"""One update of the shipped DiT against its floor, its FLOPs at the matrix-product rate; and what Muon takes of it."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from model.dit.video_dit import VideoDiT
from model.training.ema import ExponentialMovingAverage
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, build_optimizers, orthogonalize
from model.training.state import TrainState
from model.training.windows import LatentBatch

ROWS, FRAMES, HEIGHT, WIDTH, TEXT_TOKENS = 8, 13, 6, 10, 24  # as in experiment=tiny
NUM_CONTEXT, NUM_NEW = 4, 4


def _batch(step: int, micro: int) -> LatentBatch:
    return LatentBatch(
        latents=torch.randn(ROWS, 16, FRAMES, HEIGHT, WIDTH),
        c2w=torch.eye(4).repeat(ROWS, FRAMES, 1, 1),
        intrinsics=torch.tensor([0.65, 1.1, 0.5, 0.5]).repeat(ROWS, 1),
        text=torch.randn(ROWS, TEXT_TOKENS, 64),
        labelled=torch.ones(ROWS, dtype=torch.bool),
    )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_update(
    benchmark: BenchmarkFixture,
    optimizer: str,
    shipped_dit: VideoDiT,
    count_flops: Callable[[Callable[[], object]], int],
    matrix_product_rate: Callable[[], float],
) -> None:
    optimizers = build_optimizers(shipped_dit, OptimizerConfig(muon=optimizer == "muon"))
    state = TrainState(module=shipped_dit, optimizers=optimizers, ema=ExponentialMovingAverage(shipped_dit))
    config = FlowMatchingConfig(context_shares={NUM_CONTEXT: 1.0}, num_new=NUM_NEW, memory_latents=2)
    step = FlowMatchingStep(config, torch.zeros(TEXT_TOKENS, 64), dit=shipped_dit.config)

    def update() -> None:
        fit(step, state, _batch, num_steps=state.step + 1, config=FitConfig(progress=False))

    update()  # the optimisers' buffers
    benchmark.pedantic(update, rounds=3)
    rate = matrix_product_rate()
    flops = count_flops(lambda: step(shipped_dit, _batch(0, 0), torch.Generator())[0].backward())
    benchmark.extra_info |= {
        "gflops_per_second": round(flops / benchmark.stats.stats.min / 1e9, 1),
        "matrix_product_gflops_per_second": round(rate / 1e9, 1),
        "ratio_to_floor": round(benchmark.stats.stats.min * rate / flops, 2),
    }


@pytest.mark.parametrize("shape", [(64, 192, 192), (8, 768, 192)], ids=["square", "wide"])
def test_orthogonalize(benchmark: BenchmarkFixture, shape: tuple[int, int, int]) -> None:
    benchmark(orthogonalize, torch.randn(shape))
