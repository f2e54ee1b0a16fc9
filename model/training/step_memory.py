"""The memory of a training step beside weights and optimiser: counted on tensors that have sizes but no numbers."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT
from model.training.plan import WindowShape


class PeakMemory(TorchDispatchMode):
    """The most bytes that lived at once of what the calls within `with` made; weights are not counted.

    PyTorch's own `MemTracker` (torch.distributed._tools) refuses frozen weights.

    Args:
        network: Whose weights these are.

    Attributes:
        peak: Bytes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._sizes = {weights.untyped_storage()._cdata: 0 for weights in network.parameters()}
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes the storages of a call's results, until they are freed."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._sizes:
                storage = tensor.untyped_storage()
                self._sizes[storage._cdata] = storage.nbytes()
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return out

    def _gone(self, number: int) -> None:
        self._now -= self._sizes.pop(number)


def step_bytes(dit: VideoDiT, window: WindowShape, batch_size: int, is_bfloat16: bool, is_sharded: bool = False) -> int:
    """Peak of an evaluation and its gradients: intermediate results, weights' copies in bfloat16, a layer's gradients.

    Gradients that wait for the optimiser are not in it. Kernels' own work space and the allocator's gaps are not known.

    Args:
        dit: On the device `meta`, as it is trained: with adapters, frozen parts, gradient checkpointing.
        window: Of each clip.
        batch_size: Clips at once.
        is_bfloat16: Products are in bfloat16 (autocast).
        is_sharded: Blocks are gathered in the type of the products: there are no copies.
    """
    b, f = batch_size, window.num_frames
    grid = (window.rows, window.columns)
    network = copy.deepcopy(dit)
    if is_sharded and is_bfloat16:
        network.blocks.bfloat16()
    network.rotary((f, *grid), torch.device("cpu"))  # kept from call to call: it must have numbers
    with FakeTensorMode(allow_non_fake_inputs=True):
        _replace_tensors(network)
        latents = torch.empty(b, network.config.in_channels, f, *grid)
        t, text = torch.empty(b, f), torch.empty(b, window.text_tokens, network.config.text_dim)
        mask = torch.empty(b, f, dtype=torch.bool) if network.config.mask_channel else None
        poses, lens = torch.empty(b, f, 4, 4), torch.empty(b, 4)
        cameras = camera_inputs(network.config, poses, lens, *grid, window.num_context)
        with PeakMemory(network) as counted:
            with torch.autocast("cpu", torch.bfloat16, is_bfloat16):
                velocity = network(latents, t, text, context_mask=mask, num_context=window.num_context, **cameras)
                loss = velocity.float().square().mean()
            loss.backward()
    return counted.peak


def _replace_tensors(network: VideoDiT) -> None:
    """Gives a network tensors that belong to the mode that is active; gradients are dropped as they come."""
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                    is_parameter = tensors is module._parameters
                    tensors[name] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty  # type: ignore[assignment]
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_drop_gradient)


def _drop_gradient(parameter: torch.Tensor) -> None:
    parameter.grad = None
