"""A stage of training: number of steps, batch size, optimiser; and the state that it begins with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from model.training import distributed
from model.training.ema import ExponentialMovingAverage
from model.training.loop import FitConfig
from model.training.lora import has_lora
from model.training.optim import OptimizerConfig, build_optimizers
from model.training.precision import to_training
from model.training.sharding import shard
from model.training.state import TrainState


@dataclass(kw_only=True)
class StageConfig:
    """Number of steps, batch size, optimiser and loop settings of a stage."""

    num_steps: int = 1000
    batch_size: int = 32
    ema_decay: float = 0.999
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        """Rejects invalid settings before data are rendered.

        Raises:
            ValueError: for a setting out of range.
        """
        for name in ("num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name}: expected at least 1, got {getattr(self, name)}")
        self.fit.validate()


def adamw_stage() -> StageConfig:
    """The defaults of a stage whose network is made of convolutions, which have no matrices for Muon."""
    return StageConfig(optimizer=OptimizerConfig(muon=False))


def train_state(
    module: nn.Module,
    stage: StageConfig,
    seed: int,
    inputs: Mapping[str, str] | None = None,
    device: torch.device | None = None,
) -> TrainState:
    """A module in training, before its first step: on its device, whole or sharded, with optimisers and average.

    Args:
        module: What to train; its weights get the types of `training_dtype`.
        stage: Optimiser, average, and whether the module is sharded over the processes.
        seed: Of the run.
        inputs: See `TrainState`.
        device: Where the module goes; None: it stays where it is.

    Raises:
        ValueError: The module cannot be sharded, or `build_optimizers` raises it.
    """
    device = device or next(module.parameters()).device
    whole = None
    # (on the device `meta` settings are only checked)
    is_bfloat16 = stage.fit.uses_bfloat16(device)
    if should_shard(module, stage) and device.type != "meta":
        whole = shard(module, device, is_bfloat16)
    else:
        to_training(module, device, is_bfloat16)
    return TrainState(
        module=module,
        optimizers=build_optimizers(module, stage.optimizer),
        ema=ExponentialMovingAverage(module, stage.ema_decay),
        seed=seed,
        inputs=dict(inputs or {}),
        trained_only=has_lora(module),
        whole=whole,
    )


def should_shard(module: nn.Module, stage: StageConfig) -> bool:
    """Whether a module is sharded in training.

    Raises:
        ValueError: It shall be, but there is only one process, or the optimiser is Muon, which needs whole matrices.
    """
    wanted = stage.fit.shard
    if wanted is None:
        return distributed.is_distributed() and hasattr(module, "blocks") and not stage.optimizer.muon
    if wanted and not distributed.is_distributed():
        raise ValueError("training.fit.shard: expected false with one process, got true; start with torchrun")
    if wanted and stage.optimizer.muon:
        raise ValueError(
            "training.fit.shard: expected false with Muon, which needs whole matrices, got true; set "
            "training.optimizer.muon=false"
        )
    return wanted


def check_context_parallel(module: nn.Module, stage: StageConfig) -> None:
    """Raises ValueError unless these processes can share their windows as the settings say (`share_windows`)."""
    size = stage.fit.context_parallel
    if size > 1 and not should_shard(module, stage):
        raise ValueError(
            f"training.fit.context_parallel: expected 1 for a network that every process holds whole, got {size}; "
            "start with torchrun, training.fit.shard=true and training.optimizer.muon=false"
        )
    if distributed.world_size() % size:
        raise ValueError(
            f"training.fit.context_parallel: expected a divisor of the {distributed.world_size()} processes, got {size}"
        )
