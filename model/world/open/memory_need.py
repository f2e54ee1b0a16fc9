"""How much memory a world takes, from headers and sizes, before any weight is read; and how much there is."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from model.vae.video_vae import VideoVAEConfig

_GB = 1e9


def num_bytes(tensors: Iterable[Tensor], dtype: torch.dtype | None = None) -> int:
    """Bytes of tensors, which may be on the meta device, in their own type or in `dtype`."""
    return sum(tensor.numel() * (dtype or tensor.dtype).itemsize for tensor in tensors)


def decoding_bytes(config: VideoVAEConfig, height: int, width: int, num_latents: int, itemsize: int) -> int:
    """Bytes for decoding so many latent frames of one video, in the pieces in which our VAE decodes, caches included.

    Source: counted (`tests/world/test_memory_need.py`).
    """
    once, each, more = (56, 28, 26) if config.is_residual else (49, 24, 15)
    at_once = min(num_latents, config.latents_at_once(1, height, width))
    units = once + each * at_once + more * (at_once < num_latents)  # between two pieces, one more cache
    return units * config.elements_a_latent(height, width) // config.temporal_stride * itemsize


def check_memory(device: torch.device, needs: Mapping[str, int], advice: str) -> None:
    """Raises if a device has too little memory: a GPU's free memory counts, or all of the machine's or container's.

    Args:
        device: The device to check.
        needs: Bytes of each part by its name.
        advice: What to try instead.

    Raises:
        ValueError: The message says what each part takes.
    """
    total, available = sum(needs.values()), _available(device)
    if total > available:
        parts = ", ".join(f"{name} {size / _GB:.1f}" for name, size in needs.items())
        raise ValueError(
            f"device: expected {total / _GB:.1f} GB on {device} ({parts}), got {available / _GB:.1f}; {advice}"
        )


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, container_limit() or machine)


def container_limit(root: Path = Path("/")) -> int | None:
    """The smallest memory limit of the control groups that this process is in, in bytes; None without one.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and for the first version cgroup-v1/memory.html there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return None
    limits = []
    for controllers, _, name in (line.partition(":")[2].partition(":") for line in lines):
        mount = root / "sys/fs/cgroup" / ("" if not controllers else "memory")
        if controllers and "memory" not in controllers.split(","):
            continue
        group = PurePosixPath(name)
        for each in (group, *group.parents):
            file = mount / each.relative_to("/") / ("memory.limit_in_bytes" if controllers else "memory.max")
            text = file.read_text().strip() if file.is_file() else "max"
            limits += [int(text)] if text != "max" else []
    return min(limits, default=None)
