"""The learned world's clip against its floor: its own FLOPs at the matrix-product rate of this machine, in one run."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.flop_counter import FlopCounterMode

from model.world.load import load_world
from model.world.protocol import WorldModel


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return load_world("tiny")


@pytest.mark.parametrize("batch", [1, 8])
def test_extend(
    benchmark: BenchmarkFixture, world: WorldModel, batch: int, matrix_product_rate: Callable[[], float]
) -> None:
    poses = torch.eye(4).repeat(batch, world.spec.poses_per_clip, 1, 1)
    state, _ = world.start(range(batch))
    state, _ = world.extend(state, poses)  # from here on the context window is full
    with FlopCounterMode(display=False) as counter:
        world.extend(state, poses)
    _, frames = benchmark.pedantic(world.extend, (state, poses), rounds=5, warmup_rounds=1, iterations=1)
    seconds = benchmark.stats.stats.median
    rate = matrix_product_rate()
    benchmark.extra_info.update(
        frames_per_second=round(frames.shape[0] * frames.shape[1] / seconds, 1),
        gflop=round(counter.get_total_flops() / 1e9, 2),
        matrix_product_gflop_per_second=round(rate / 1e9, 1),
        ratio_to_floor=round(seconds * rate / counter.get_total_flops(), 2),
    )


def test_start(benchmark: BenchmarkFixture, world: WorldModel) -> None:
    _, frames = benchmark.pedantic(world.start, ([1],), rounds=3, warmup_rounds=1, iterations=1)
    assert frames.shape[1] == 1
