"""Everything that a training carries from one step to the next, as named tensors and a few numbers."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from model.training.ema import ExponentialMovingAverage


@dataclass(kw_only=True)
class TrainState:
    """A module in training. Randomness and data are functions of (seed, step), so there is no generator to keep.

    `inputs` are fingerprints, by name, of the frozen networks that it is trained for: with others it is of no use.
    """

    module: nn.Module
    optimizers: list[torch.optim.Optimizer]
    ema: ExponentialMovingAverage | None = None
    seed: int = 0
    step: int = 0
    elapsed_seconds: float = 0.0
    skipped_steps: int = field(default=0)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the module's parameters are."""
        return next(self.module.parameters()).device

    def tensors(self) -> dict[str, Tensor]:
        """Module, optimisers and average as one flat dictionary of whole tensors (gathered where sharded)."""
        named = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        for key, tensor in self._optimizer_tensors().items():
            named[f"optimizer/{key}"] = tensor
        for name, tensor in (self.ema.parameters if self.ema else {}).items():
            named[f"ema/{name}"] = tensor
        return {name: gathered(tensor.detach()) for name, tensor in named.items()}

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
        own = {f"module/{name}": tensor for name, tensor in self.module.state_dict(keep_vars=True).items()}
        own |= {f"optimizer/{key}": tensor for key, tensor in self._optimizer_tensors().items()}
        own |= {f"ema/{name}": tensor for name, tensor in (self.ema.parameters if self.ema else {}).items()}
        if own.keys() != tensors.keys():
            different = sorted(own.keys() ^ tensors.keys())
            raise ValueError(f"checkpoint: expected this model's tensors, differs in {len(different)}: {different[:4]}")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                shapes = f"expected shape {list(tensor.shape)}, got {list(tensors[name].shape)}"
                raise ValueError(f"checkpoint: {name}: {shapes}; use this run's configuration or a new folder")
            tensor.copy_(_like(tensors[name], tensor))
        self.step = int(numbers["step"])
        self.elapsed_seconds = float(numbers["elapsed_seconds"])
        self.skipped_steps = int(numbers["skipped_steps"])

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.module.named_parameters()}

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = self._names()
        return {
            f"{index}/{names[parameter]}/{key}": value
            for index, optimizer in enumerate(self.optimizers)
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def _create_optimizer_state(self, tensors: dict[str, Tensor]) -> None:
        """Optimisers make their buffers at the first update; here they are made from the checkpoint's names."""
        parameters = {name: parameter for parameter, name in self._names().items()}
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


def gathered(tensor: Tensor) -> Tensor:
    """Returns the whole of a tensor that is sharded over processes; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(whole: Tensor, tensor: Tensor) -> Tensor:
    if not isinstance(tensor, DTensor):
        return whole
    return distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)
