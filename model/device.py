"""Devices: from the name that a user writes to the device that torch can use here."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def usable_device(name: str) -> torch.device:
    """Returns the device of this name, after a test: torch itself fails only when the first tensor goes there.

    Raises:
        ValueError: torch does not know it, or cannot use it here.
    """
    try:
        torch.empty(1, device=name).cpu()  # copied back, because `meta` holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: expected one that torch can use here, got {name!r} ({reason}); use 'cpu'") from error
    return torch.device(name)


def check_backend(name: str, setting: str) -> None:
    """Raises ValueError, which names the setting, if `torch.compile` has no backend of this name."""
    if name not in torch.compiler.list_backends(exclude_tags=()):  # with those for debugging
        raise ValueError(
            f"{setting}: expected a backend of torch.compile, of {torch.compiler.list_backends()}, got {name!r}; use "
            "'inductor'"
        )


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices fast (GPUs; CPUs with AMX or AVX-512 BF16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside the `with` block the module's tensors are copies on the device; afterwards it has its own again.

    For weights that do not change. Tensors that are already on the device are not copied.
    """
    owned = [
        (part, name, tensor)
        for part in module.modules()
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        if tensor.device != device
    ]
    copies: dict[int, torch.Tensor] = {}  # one for each tensor: some belong to two parts
    try:
        for part, name, tensor in owned:
            if id(tensor) not in copies:
                copy = tensor.detach().to(device)
                copies[id(tensor)] = nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy
            setattr(part, name, copies[id(tensor)])
        yield
    finally:
        for part, name, tensor in owned:
            setattr(part, name, tensor)
