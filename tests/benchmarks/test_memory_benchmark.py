"""Two thousand steps, flown: neither memory nor time grows with the age of a process or of an episode."""

import gc
import statistics
import sys
import time

import numpy as np
import pytest

from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.world.synthetic_world import SyntheticWorld

resource = pytest.importorskip("resource", reason="only POSIX systems report resident memory")

STEPS = 2000


def peak_mib() -> float:
    """The most that this process has held, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def test_two_thousand_steps(benchmark):
    """One episode after another, each as long as the environment lets it; the peak may grow by what allocators keep."""
    envs = CameraCtrlWorldVectorEnv(1, SyntheticWorld(height=8, width=12), max_episode_steps=1000)
    envs.reset(seed=0)
    rng, seconds, peaks = np.random.default_rng(0), [], {}

    def fly() -> None:
        for step in range(1, STEPS + 1):
            action = rng.uniform(-0.05, 0.05, envs.action_space.shape).astype(np.float32)
            start = time.perf_counter()
            envs.step(action)
            seconds.append(time.perf_counter() - start)
            if step in (10, STEPS):
                gc.collect()
                peaks[step] = peak_mib()

    benchmark.pedantic(fly, rounds=1, iterations=1)
    # of a hundred steps each, the quickest: other programs come and go
    early, late = min(seconds[10:110]), min(seconds[900:1000])
    benchmark.extra_info.update(
        growth_mib=round(peaks[STEPS] - peaks[10], 2),
        ms_per_step=round(1e3 * statistics.median(seconds), 2),
        step_1000_over_step_10=round(late / early, 2),
    )
    assert peaks[STEPS] - peaks[10] < 20
