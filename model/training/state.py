"""Everything that a training carries from one step to the next, as named tensors and a few numbers."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model.training.ema import ExponentialMovingAverage
from model.training.sharding import local_shard


@dataclass(kw_only=True)
class TrainState:
    """A module in training. Randomness and data are functions of (seed, step), so there is no generator to keep.

    `inputs` are fingerprints, by name, of the frozen networks that it is trained for: with others it is useless.
    `parts` are named parts of the module whose gradients are clipped separately; none: all by one norm.
    `trained_only`: frozen weights are not saved with the state; `inputs` identify them.
    `whole`: for a sharded module, what `sharding.shard` returned.
    `batches_a_step`: of all processes; set by `fit`, and the same in the whole run.
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
    whole: nn.Module | None = None
    batches_a_step: int | None = None

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
            "batches_a_step": self.batches_a_step,
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Restores what `tensors` and `numbers` returned. Raises as `load_numbers` and `places_for`."""
        self.check_numbers(numbers)
        for name, tensor in self.places_for(tensors).items():
            tensor.copy_(local_shard(tensor, tensors[name]))
        self.load_numbers(numbers)

    def check_numbers(self, numbers: dict[str, Any]) -> None:
        """Raises ValueError if the checkpoint is of a run with another seed or other batches."""
        if numbers["seed"] != self.seed:
            raise ValueError(f"seed: expected the checkpoint's {numbers['seed']}, got {self.seed}; use a new folder")
        saved = numbers.get("batches_a_step")  # older checkpoints do not have it
        if saved is not None and self.batches_a_step is not None and saved != self.batches_a_step:
            raise ValueError(
                f"training.fit.accumulation: expected {saved} batches a step over all processes, as this run was begun "
                f"with, got {self.batches_a_step}; with N processes give {saved} / N"
            )

    def load_numbers(self, numbers: dict[str, Any]) -> None:
        """Restores what `numbers` returned. Raises as `check_numbers`."""
        self.check_numbers(numbers)
        self.step = int(numbers["step"])
        self.elapsed_seconds = float(numbers["elapsed_seconds"])
        self.skipped_steps = int(numbers["skipped_steps"])

    def places_for(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors to fill from these saved ones, of which only names, shapes and types are read.

        Raises:
            ValueError: The names or shapes are another model's.
        """
        self._create_optimizer_state(tensors)
        own = self.tensors()
        if own.keys() != tensors.keys():
            different = sorted(own.keys() ^ tensors.keys())
            raise ValueError(f"checkpoint: expected this model's tensors, differs in {len(different)}: {different[:4]}")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                shapes = f"expected shape {list(tensor.shape)}, got {list(tensors[name].shape)}"
                raise ValueError(f"checkpoint: {name}: {shapes}; use this run's configuration or a new folder")
        return own

    def _create_optimizer_state(self, tensors: dict[str, Tensor]) -> None:
        """Optimisers make their buffers at the first update; here they are made from the checkpoint's names."""
        parameters = dict(self.module.named_parameters())
        for key, saved in tensors.items():
            if key.startswith("optimizer/"):
                index, rest = key.removeprefix("optimizer/").split("/", 1)
                name, entry = rest.rsplit("/", 1)
                if name in parameters and int(index) < len(self.optimizers):
                    optimizer, parameter = self.optimizers[int(index)], parameters[name]
                    optimizer.state[parameter][entry] = _buffer(optimizer, parameter, entry, saved)


def _buffer(optimizer: torch.optim.Optimizer, parameter: Tensor, entry: str, saved: Tensor) -> Tensor:
    """Zeros for a saved buffer."""
    if entry != "step":
        return torch.zeros_like(parameter, dtype=saved.dtype)
    # AdamW counts steps on the CPU, unless it is fused
    device = parameter.device if optimizer.defaults.get("fused") else "cpu"
    return torch.zeros(saved.shape, dtype=saved.dtype, device=device)


def generator_for(device: torch.device, *key: int) -> torch.Generator:
    """Returns a generator seeded by all the integers of the key (seed, step, ...); order matters."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)
