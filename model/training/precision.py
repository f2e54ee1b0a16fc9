"""In which types a network's weights are kept in training: what is trained in float32, whatever the file holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.dit.video_dit import VideoDiT
from model.training.lora import is_adapted

Module = TypeVar("Module", bound=nn.Module)


def training_dtype(name: str, parameter: Tensor, is_bfloat16: bool) -> torch.dtype:
    """The type of a parameter in training.

    Frozen matrices with adapters are kept in bfloat16 where products are: autocast would round them so at every
    product, so that nothing changes but the memory, of which they take half, with no copies beside them.

    Args:
        name: Of the parameter, in its network or block.
        parameter: On any device.
        is_bfloat16: The training's products are in bfloat16.
    """
    if is_adapted(name) and is_bfloat16:
        return torch.bfloat16
    return torch.float32 if parameter.dtype in (torch.bfloat16, torch.float16) else parameter.dtype


def to_training(module: Module, device: torch.device, is_bfloat16: bool) -> Module:
    """Moves a module to a device, its weights in the types of `training_dtype`; returns it."""
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(device, training_dtype(name, parameter, is_bfloat16))
    return module.to(device)


@contextmanager
def products_in_bfloat16(dit: VideoDiT, device: torch.device, is_bfloat16: bool) -> Iterator[None]:
    """Inside the `with` block the network's products are in bfloat16 (autocast), and nothing else is.

    A world that flies computes cameras, too, which must not be rounded.
    """
    methods = ("forward", "encode_text", "embed_camera")
    if is_bfloat16:
        for name in methods:
            setattr(dit, name, torch.autocast(device.type, torch.bfloat16)(getattr(dit, name)))
    try:
        yield
    finally:
        for name in methods if is_bfloat16 else ():
            delattr(dit, name)
