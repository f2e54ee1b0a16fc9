"""In which types a network's weights are kept in training: what is trained in float32, whatever the file holds."""

import torch
from torch import Tensor, nn

from model.training.lora import is_adapted


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


def to_training(module: nn.Module, device: torch.device, is_bfloat16: bool) -> nn.Module:
    """Moves a module to a device, its weights in the types of `training_dtype`; returns it."""
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(device, training_dtype(name, parameter, is_bfloat16))
    return module.to(device)
