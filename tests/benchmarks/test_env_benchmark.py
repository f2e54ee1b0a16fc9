"""`env.step` with default settings: frames per second, and its time against the floor.

The floor is its own FLOPs at this machine's matrix-product rate, measured in the same run. Targets on a CPU: at most 3
times the floor and, in `tiny`, at least 40 frames per second.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.flop_counter import FlopCounterMode

import cc2env


@pytest.mark.parametrize("world", ["synthetic", "tiny", "small"])
def test_env_step(benchmark: BenchmarkFixture, world: str, matrix_product_rate: Callable[[], float]) -> None:
    env = gym.make(cc2env.ENV_ID, world=world)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, 2], action[:, 4] = 0.1, 0.02
    for _ in range(2):  # from here on the context is as long as it gets: 8 latents at most
        env.step(action)
    with FlopCounterMode(display=False) as counter:
        *_, info = env.step(action)
    frames = benchmark.pedantic(lambda: env.step(action)[0], rounds=10, warmup_rounds=1, iterations=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["frames_per_second"] = round(len(frames) / seconds, 1)
    if info["function_evaluations"]:  # a renderer has no network to count
        flops, rate = counter.get_total_flops(), matrix_product_rate()
        benchmark.extra_info["gflop"] = round(flops / 1e9, 2)
        benchmark.extra_info["matrix_product_gflop_per_second"] = round(rate / 1e9, 1)
        benchmark.extra_info["ratio_to_floor"] = round(seconds * rate / flops, 2)
    env.close()
