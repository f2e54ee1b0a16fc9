"""Exponential moving average of a module's parameters, with a decay that warms up."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages of the trained parameters by name; after s updates the decay is min(decay, (1 + s) / (10 + s)).

    `prefix`: only of parameters whose names start with it.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999, prefix: str = "") -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), got {decay}")
        self.decay = decay
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad and name.startswith(prefix)}
        self.parameters = {name: p.detach().clone() for name, p in trained.items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average towards the module; `step` updates have been averaged before."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.parameters.values()), self._sources(module), 1 - decay)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[nn.Module]:
        """Gives the module the average inside the block; afterwards it has its own parameters again, bit for bit."""
        own = [p.detach().clone() for p in self._sources(module)]
        with torch.no_grad():
            torch._foreach_copy_(self._sources(module), list(self.parameters.values()))
        try:
            yield module
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._sources(module), own)

    def _sources(self, module: nn.Module) -> list[Tensor]:
        by_name = dict(module.named_parameters())
        return [by_name[name] for name in self.parameters]
