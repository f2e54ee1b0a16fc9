"""Faster copies of a world's networks, with the same weights: compiled by torch, recorded as CUDA graphs, or both."""

import copy
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from model.device import check_backend
from model.dit.video_dit import VideoDiT
from model.vae.video_vae import VideoVAE

Network = TypeVar("Network", bound=nn.Module)

CALLS_BEFORE = 4
"""So many calls of one shape are made as usual before it is recorded, because recording takes as long as many calls."""

MOST_GRAPHS = 32
"""Of more shapes, those are forgotten that were used least recently."""


def check_acceleration(device: torch.device, backend: str | None, cuda_graphs: bool | None) -> None:
    """Raises ValueError for a backend that torch does not have, or for CUDA graphs on another device."""
    if backend is not None:
        check_backend(backend, "compile_backend")
    if cuda_graphs and device.type != "cuda":
        raise ValueError(
            f"cuda_graphs: expected false on {device.type!r}, got true; choose device='cuda', or leave it out"
        )


@lru_cache(maxsize=4)
def accelerated(dit: VideoDiT, vae: VideoVAE, backend: str | None, cuda_graphs: bool) -> tuple[VideoDiT, VideoVAE]:
    """Copies of two networks that share their weights and compute the same, up to rounding if compiled.

    Args:
        dit: Its blocks are compiled one by one; an evaluation is recorded as one graph.
        vae: Encoder and decoder are compiled as a whole, their caches included; decoding is recorded as one graph.
        backend: One of `torch.compile`; None: no compilation.
        cuda_graphs: Whether to record, which needs networks on a CUDA device.
    """
    dit, vae = sharing_copy(dit), sharing_copy(vae)
    if backend is not None:
        for part in (*dit.blocks, vae.encoder, vae.decoder):
            part.compile(backend=backend)
    if cuda_graphs:
        dit.forward = Recorded(dit.forward)  # type: ignore[method-assign]
        vae.continue_decoding = Recorded(vae.continue_decoding)  # type: ignore[method-assign]
    return dit, vae


def sharing_copy(network: Network) -> Network:
    """A copy with the same tensors as weights and buffers."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


class Recorded:
    """A function on a CUDA device that is recorded as a graph for each shape of its arguments, and then replayed.

    Python starts a graph instead of each kernel. A replay copies the arguments to where the graph reads them, and its
    results from where it writes them; a number that is no tensor is part of the shape. The function must start the same
    kernels at each call with one shape and read no number back, and what else it reads must stay where it is. Calls
    with gradients are not recorded. Copies and pickles of this object have no recordings.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._num_calls: Counter[Any] = Counter()
        self._graphs: dict[Any, Callable[..., Any]] = {}
        self._pool: Any = None  # memory that all graphs of this function use, one after the other

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Result of the function; the caller's own copy."""
        if torch.is_grad_enabled():
            return self._function(*arguments, **named)
        leaves, structure = tree_flatten((arguments, named))
        shape = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves)
        key = (structure, shape)
        graph = self._graphs.pop(key, None)
        if graph is None:
            self._num_calls[key] += 1
            if self._num_calls[key] <= CALLS_BEFORE:
                return self._function(*arguments, **named)
            graph = self._record(leaves, structure)
        self._graphs[key] = graph  # as the latest
        if len(self._graphs) > MOST_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        return tree_map(torch.clone, graph(*(x for x in leaves if isinstance(x, Tensor))))

    def __reduce__(self) -> tuple[Any, ...]:
        return Recorded, (self._function,)

    def _record(self, leaves: list[Any], structure: Any) -> Callable[..., Any]:
        constants = [None if isinstance(x, Tensor) else x for x in leaves]
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

        def function(*tensors: Tensor) -> Any:
            filled = list(constants)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            arguments, named = tree_unflatten(filled, structure)
            return self._function(*arguments, **named)

        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        # what these copies hold is overwritten at each replay
        buffers = tuple(leaves[place].clone() for place in places)
        return torch.cuda.make_graphed_callables(function, buffers, pool=self._pool)
