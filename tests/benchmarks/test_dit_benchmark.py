"""The tiny transformer against its floor: its FLOPs at the rate of a matrix product measured in the same run."""

import os
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from model.dit import VideoDiT, VideoDiTConfig

FRAMES, HEIGHT, WIDTH, TEXT_TOKENS = 9, 6, 10, 24
NUM_THREADS = sorted({1, os.cpu_count() or 1})


def tiny_dit() -> VideoDiT:
    dit = VideoDiT(VideoDiTConfig(width=192, num_heads=4, num_blocks=8, ffn_dim=768, text_dim=64))
    torch.nn.init.normal_(dit.head.linear.weight, std=0.02)  # a zero head would make every gradient behind it zero
    return dit


def example(batch: int) -> dict[str, Tensor]:
    context_mask = torch.arange(FRAMES).expand(batch, FRAMES) < 5
    return {
        "latents": torch.randn(batch, 16, FRAMES, HEIGHT, WIDTH),
        "t": torch.rand(batch, 1) * ~context_mask,
        "text": torch.randn(batch, TEXT_TOKENS, 64),
        "plucker": torch.randn(batch, FRAMES, 6, HEIGHT, WIDTH),
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
    benchmark: BenchmarkFixture, batch: int, num_threads: int, matrix_product_rate: Callable[[], float]
) -> None:
    torch.set_num_threads(num_threads)
    dit, inputs = tiny_dit(), example(batch)
    with torch.inference_mode():
        inputs |= {"text_keys": dit.encode_text(inputs.pop("text"))}
        inputs |= {"camera_tokens": dit.embed_camera(inputs.pop("plucker"))}
        benchmark.pedantic(lambda: dit(**inputs), rounds=20, warmup_rounds=3)
    report(benchmark, batch * dit.flops(FRAMES, HEIGHT, WIDTH, TEXT_TOKENS), matrix_product_rate())


@pytest.mark.parametrize("num_threads", NUM_THREADS)
def test_training_step(benchmark: BenchmarkFixture, num_threads: int, matrix_product_rate: Callable[[], float]) -> None:
    torch.set_num_threads(num_threads)
    dit, inputs = tiny_dit(), example(32)
    target = torch.randn_like(inputs["latents"])

    def step() -> None:
        dit.zero_grad()
        (dit(**inputs) - target).square().mean().backward()

    benchmark.pedantic(step, rounds=4, warmup_rounds=1)
    # two matrix products backward for each one forward
    report(benchmark, 3 * 32 * dit.flops(FRAMES, HEIGHT, WIDTH, TEXT_TOKENS), matrix_product_rate())
