"""What every benchmark shares: torch's default threads, a machine's matrix-product rate, and figures in the summary."""

import os
import time
from collections.abc import Callable

import pytest
import torch

from model.checkpoint import load_component
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation import network_cost
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.folder import world_folder

_DEFAULT_THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def default_threads(seeded_and_single_threaded: None) -> None:
    """As a user has them; the tests proper run on one."""
    torch.set_num_threads(_DEFAULT_THREADS)


@pytest.fixture
def shipped_dit() -> VideoDiT:
    """The network of the shipped world."""
    return load_component(world_folder("tiny") / "dit", VideoDiTConfig, VideoDiT)


@pytest.fixture
def shipped_vae() -> VideoVAE:
    """The VAE of the shipped world."""
    return load_component(world_folder("tiny") / "vae", VideoVAEConfig, VideoVAE)


@pytest.fixture
def count_flops() -> Callable[[Callable[[], object]], int]:
    """Floating-point operations of the matrix products of a call (multiply-adds count two)."""
    return network_cost.count_flops


@pytest.fixture
def matrix_product_rate() -> Callable[[], float]:
    """FLOP/s of a float32 product of two 1024 x 1024 matrices on the threads in force, the best of several."""

    def measure() -> float:
        a, seconds = torch.randn(1024, 1024), []
        for _ in range(10):
            start = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - start)
        return 2 * 1024**3 / min(seconds)

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints frames a second, FLOP/s and ratios to the floor, which pytest-benchmark keeps to its JSON file."""
    session = getattr(config, "_benchmarksession", None)
    rows = [(b.name, b.extra_info) for b in getattr(session, "benchmarks", []) if b.extra_info]
    if rows:
        terminalreporter.section(f"figures ({os.cpu_count()} cores, {_DEFAULT_THREADS} threads)")
    for name, figures in rows:
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
