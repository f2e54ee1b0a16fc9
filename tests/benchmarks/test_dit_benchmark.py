"""The shipped transformer against its floor: its FLOPs at the rate of a matrix product measured in the same run."""

import os
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from model.dit import VideoDiT

FRAMES, NUM_CONTEXT, HEIGHT, WIDTH, TEXT_TOKENS = 8, 4, 6, 10, 24
ROWS = 8  # of a training step, as in experiment=tiny
NUM_THREADS = sorted({1, os.cpu_count() or 1})


def example(batch: int) -> dict[str, Tensor]:
    context_mask = torch.arange(FRAMES).expand(batch, FRAMES) < NUM_CONTEXT
    return {
        "latents": torch.randn(batch, 16, FRAMES, HEIGHT, WIDTH),
        "t": torch.rand(batch, 1) * ~context_mask,
        "text": torch.randn(batch, TEXT_TOKENS, 64),
        "plucker": torch.randn(batch, FRAMES, 6, HEIGHT, WIDTH),
        "projection": torch.eye(4).expand(batch, FRAMES, 4, 4),
        "context_mask": context_mask,
    }


def report(benchmark: BenchmarkFixture, flops: float, rate: float) -> None:
    """Adds FLOP/s, the matrix-product rate and the ratio of the best time to the floor."""
    seconds = benchmark.stats.stats.min
    benchmark.extra_info["gflops_per_second"] = round(flops / seconds / 1e9, 1)
    benchmark.extra_info["matrix_product_gflops_per_second"] = round(rate / 1e9, 1)
    benchmark.extra_info["ratio_to_floor"] = round(seconds * rate / flops, 2)


@pytest.mark.parametrize("num_threads", NUM_THREADS)
@pytest.mark.parametrize("batch", [1, 3])
def test_sampling_evaluation(
    benchmark: BenchmarkFixture,
    batch: int,
    num_threads: int,
    shipped_dit: VideoDiT,
    count_flops: Callable[[Callable[[], object]], int],
    matrix_product_rate: Callable[[], float],
) -> None:
    torch.set_num_threads(num_threads)
    dit, inputs = shipped_dit, example(batch)
    with torch.inference_mode():
        inputs |= {"text_keys": dit.encode_text(inputs.pop("text"))}
        inputs |= {"camera_tokens": dit.embed_camera(inputs.pop("plucker"))}
        flops = count_flops(lambda: dit(**inputs, num_context=NUM_CONTEXT))
        benchmark.pedantic(lambda: dit(**inputs, num_context=NUM_CONTEXT), rounds=20, warmup_rounds=3)
    report(benchmark, flops, matrix_product_rate())


@pytest.mark.parametrize("num_threads", NUM_THREADS)
def test_training_step(
    benchmark: BenchmarkFixture,
    num_threads: int,
    shipped_dit: VideoDiT,
    count_flops: Callable[[Callable[[], object]], int],
    matrix_product_rate: Callable[[], float],
) -> None:
    torch.set_num_threads(num_threads)
    dit, inputs = shipped_dit, example(ROWS)
    target = torch.randn_like(inputs["latents"][:, :, NUM_CONTEXT:])

    def step() -> None:
        dit.zero_grad()
        (dit(**inputs, num_context=NUM_CONTEXT) - target).square().mean().backward()

    benchmark.pedantic(step, rounds=4, warmup_rounds=1)
    report(benchmark, count_flops(step), matrix_product_rate())
