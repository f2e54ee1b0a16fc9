"""A preview that takes longer than processes wait for each other, which test_distributed.py runs in two processes."""

import time
from datetime import timedelta

import torch
import torch.distributed as dist

from model.training import distributed
from model.training.loop import with_average
from model.training.state import TrainState


def main() -> None:
    """After the preview all processes go on together."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=4))  # NCCL's is ten minutes
    distributed.start()
    state = TrainState(module=torch.nn.Linear(2, 2), optimizers=[])
    with_average(state, lambda module, step: time.sleep(8))
    assert float(distributed.all_reduce_mean(torch.tensor(float(distributed.rank())))) == 0.5
    distributed.stop()


if __name__ == "__main__":
    main()
