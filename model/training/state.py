"""Everything that a training carries from one step to the next, as named tensors and a few numbers."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model.training.ema import ExponentialMovingAverage


@dataclass(kw_only=True)
class TrainState:
    """A module in training. Randomness and data are functions of (seed, step), so there is no generator to keep.

    `inputs` are fingerprints, by name, of the frozen networks that it is trained for: with others it is of no use.
    `parts` are parts of the module, by name, whose gradients are clipped each by its own norm; none: all by one norm.
    `trained_only`: what is frozen is not kept with the state; `inputs` say where it is from.
    """

    module: nn.Module
    optimizers: list[torch.optim.Optimizer]
    ema: ExponentialMovingAverage | None = None
    seed: int = 0
    step: int = 0
    elapsed_seconds: float = 0.0
    skipped_steps: int = 0
    inputs: dict[str, str] = field(default_factory=dict)
    parts: dict[str, nn.Module] = field(default_factory=dict)
    trained_only: bool = False

    @property
    def device(self) -> torch.device:
        """Where the module's parameters are."""
        return next(self.module.parameters()).device

    def tensors(self) -> dict[str, Tensor]:
        """Module, optimisers and average as one flat dictionary."""
        module = self.module.state_dict()
        if self.trained_only:
            module = {
                name: module[name] for name, parameter in self.module.named_parameters() if parameter.requires_grad
            }
        named = {f"module/{name}": tensor for name, tensor in module.items()}
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        for index, optimizer in enumerate(self.optimizers):
            for parameter, values in optimizer.state.items():
                named |= {f"optimizer/{index}/{names[parameter]}/{key}": value for key, value in values.items()}
        return named | {f"ema/{name}": tensor for name, tensor in (self.ema.parameters if self.ema else {}).items()}

    def numbers(self) -> dict[str, Any]:
        """What is not a tensor, ready for JSON."""
        return {
            "step": self.step,
            "seed": self.seed,
            "elapsed_seconds": self.elapsed_seconds,
            "skipped_steps": self.skipped_steps,
            "inputs": self.inputs,
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Puts back what `tensors` and `numbers` gave.

        Raises:
            ValueError: The names or shapes are another model's, or the seed is another run's.
        """
        if numbers["seed"] != self.seed:
            raise ValueError(f"seed: expected the checkpoint's {numbers['seed']}, got {self.seed}; use a new folder")
        self._create_optimizer_state(tensors)
        own = self.tensors()
        if own.keys() != tensors.keys():
            different = sorted(own.keys() ^ tensors.keys())
            raise ValueError(f"checkpoint: expected this model's tensors, differs in {len(different)}: {different[:4]}")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                shapes = f"expected shape {list(tensor.shape)}, got {list(tensors[name].shape)}"
                raise ValueError(f"checkpoint: {name}: {shapes}; use this run's configuration or a new folder")
            tensor.copy_(tensors[name])
        self.step = int(numbers["step"])
        self.elapsed_seconds = float(numbers["elapsed_seconds"])
        self.skipped_steps = int(numbers["skipped_steps"])

    def _create_optimizer_state(self, tensors: dict[str, Tensor]) -> None:
        """Optimisers make their buffers at the first update; here they are made from the checkpoint's names."""
        parameters = dict(self.module.named_parameters())
        for key, saved in tensors.items():
            if key.startswith("optimizer/"):
                index, rest = key.removeprefix("optimizer/").split("/", 1)
                name, entry = rest.rsplit("/", 1)
                if name in parameters and int(index) < len(self.optimizers):
                    parameter = parameters[name]
                    like = saved if entry == "step" else parameter  # AdamW counts on the CPU, but where it is fused
                    if self.optimizers[int(index)].defaults.get("fused"):
                        like = like.to(parameter.device)
                    self.optimizers[int(index)].state[parameter][entry] = torch.zeros_like(like, dtype=saved.dtype)


def generator_for(device: torch.device, *key: int) -> torch.Generator:
    """Returns a generator seeded by all the integers of the key (seed, step, ...); order matters."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)
