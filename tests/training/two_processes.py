"""A toy training, which test_distributed.py also runs in two processes."""

import os
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.training import distributed
from model.training.ema import ExponentialMovingAverage
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState

ROWS = 8


class Toy(nn.Module):
    """Two hidden matrices for Muon, one square and one wide, and a head for AdamW."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 12)])
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def toy_state() -> TrainState:
    """A fresh toy with both optimisers and an average."""
    module = Toy()
    optimizers = build_optimizers(module, OptimizerConfig(lr=1e-2))
    return TrainState(module=module, optimizers=optimizers, ema=ExponentialMovingAverage(module), seed=5)


def rows_of(step: int) -> Tensor:
    """The whole batch of a step."""
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(100 + step))


def step_fn(module: nn.Module, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Regression on two sines."""
    loss = (module(batch) - torch.sin(2 * batch[:, :2])).square().mean()
    return loss, {"largest": batch.max()}


def train(accumulation: int = 1, num_steps: int = 5, folder: Path | None = None):
    """Trains on equal shares of the same rows, however many processes and micro-batches there are."""
    share = ROWS // (distributed.world_size() * accumulation)

    def batches(step: int, micro: int) -> Tensor:
        first = (micro * distributed.world_size() + distributed.rank()) * share
        return rows_of(step)[first : first + share]

    config = FitConfig(accumulation=accumulation, progress=False, schedule=ScheduleConfig(warmup_steps=2))
    return fit(step_fn, toy_state(), batches, num_steps=num_steps, config=config, folder=folder)


def make_once(folder: Path) -> None:
    """Slow preparations, of which one process makes the file that the others find."""
    if not (folder / "prepared").exists():
        time.sleep(0.5)
        (folder / f"made_by_{distributed.rank()}").touch()
        (folder / "prepared").touch()


def main(folder: Path) -> None:
    """Trains in this process group: with two micro-batches; then with one, stopped half way and continued."""
    torch.set_num_threads(1)
    distributed.start()
    with distributed.local_main_first():
        make_once(folder)
    results = {"plain": train(accumulation=2)}
    train(num_steps=3, folder=folder)
    results["continued"] = train(folder=folder)
    for name, state in results.items():
        tensors = {key: tensor.clone().contiguous() for key, tensor in state.tensors().items()}
        if distributed.is_main():
            save_file(tensors, folder / f"{name}.safetensors")
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # A worker thread of torch that wants Python's lock while the interpreter shuts down aborts the process ("terminate
    # called without an active exception"; one run in some fifty). All is written, so leave without shutting down.
    sys.stderr.flush()
    os._exit(0)
