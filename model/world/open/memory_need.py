"""How much memory a world takes, from headers and sizes, before any weight is read."""

import os
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_GB = 1e9


def num_bytes(tensors: Iterable[Tensor], dtype: torch.dtype | None = None) -> int:
    """Bytes of tensors, which may be on the meta device, in their own type or in `dtype`."""
    return sum(tensor.numel() * (dtype or tensor.dtype).itemsize for tensor in tensors)


def vae_activation_bytes(height: int, width: int, base_dim: int, itemsize: int) -> int:
    """Bytes for decoding one latent frame by Wan's VAE, with the caches of the frame before and of this one.

    Source: counted (`tests/world/wan_fun/test_wan_fun_memory.py`).
    """
    return 70 * height * width * base_dim * itemsize


def check_memory(device: torch.device, needs: Mapping[str, int], advice: str) -> None:
    """Raises if a device has too little memory: a GPU's free memory counts, or all of the machine's.

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
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
