"""torch.distributed from torchrun's environment; with one process every function here is a no-op."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.device import usable_device


def start(device: str = "cpu") -> torch.device:
    """Joins torchrun's processes, if it started us; returns this one's device (`cuda` becomes `cuda:LOCAL_RANK`).

    Raises:
        ValueError: torch cannot use the device here.
    """
    local = usable_device(device)
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return local
    if local.type == "cuda":
        local = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if local.type == "cuda" else "gloo")
    _patient_group()  # now, because making it needs all processes at once
    return local


def stop() -> None:
    """Leaves the process group, if there is one, when all processes are finished."""
    if is_distributed():
        dist.barrier()  # a process that leaves first would close connections that another still uses
        dist.destroy_process_group()
        _patient_group.cache_clear()


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number among all, 0 when alone."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes files and draws the progress bar."""
    return rank() == 0


def barrier() -> None:
    """Waits for the other processes."""
    if is_distributed():
        dist.barrier()


@contextmanager
def local_main_first() -> Iterator[None]:
    """Each machine's first process runs the `with` block alone; its others follow and find the files that it made."""
    is_first = int(os.environ.get("LOCAL_RANK", rank())) == 0
    if not is_first:
        wait_for_hours()
    yield
    if is_first:
        wait_for_hours()


def wait_for_hours() -> None:
    """Waits for the other processes, also where one of them has hours of work: previews of a large world, or clips.

    Always over gloo: NCCL would give up after ten minutes, and end the training.
    """
    if is_distributed():
        dist.barrier(group=_patient_group())


@lru_cache(maxsize=1)
def _patient_group() -> Any:
    return dist.new_group(backend="gloo", timeout=timedelta(days=1))


def wrap(module: nn.Module) -> nn.Module:
    """Returns the module whose backward averages gradients over processes; itself when alone."""
    if not is_distributed():
        return module
    devices = [p.device for p in module.parameters()][:1]
    return DistributedDataParallel(module, device_ids=devices if devices[0].type == "cuda" else None)


def all_reduce_mean(values: Tensor) -> Tensor:
    """Returns the mean over processes."""
    if is_distributed():
        values = values.clone()
        dist.all_reduce(values)
        values /= world_size()
    return values


def broadcast_int(choice: int, device: torch.device) -> int:
    """Returns process 0's choice on all processes: shapes must agree, or the fast ones wait for the slow."""
    if not is_distributed():
        return choice
    tensor = torch.tensor(choice, device=device)
    dist.broadcast(tensor, 0)
    return int(tensor.item())


def broadcast_text(text: str) -> str:
    """Returns process 0's text on all processes."""
    texts: list[Any] = [text]
    if is_distributed():
        dist.broadcast_object_list(texts, 0)
    return str(texts[0])
