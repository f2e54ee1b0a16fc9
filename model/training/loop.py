"""`fit`: the only training loop. A stage is a step function; everything else about training is here."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from model.device import check_backend, multiplies_bfloat16
from model.training import distributed, run_folder, sharding
from model.training.curve import Curve
from model.training.optim import ScheduleConfig, learning_rate_share, set_learning_rate
from model.training.signals import StopRequest
from model.training.state import TrainState, generator_for


@runtime_checkable
class StepFunction(Protocol):
    """Defines a stage: takes a batch, returns a loss and numbers for the curve; all randomness is the generator's."""

    def __call__(
        self, module: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Returns the loss, with gradients, and the metrics."""
        ...


@runtime_checkable
class Batches(Protocol):
    """The data as a pure function, so that a resumed run sees the very same batches."""

    def __call__(self, step: int, micro: int) -> Any:
        """Returns this process's batch number `micro` of a step: a tensor, or a tuple or dictionary of tensors."""
        ...


@dataclass(kw_only=True)
class FitConfig:
    """Settings of the loop, for every stage."""

    accumulation: int = 1
    max_grad_norm: float | None = 1.0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    # autocast; None: where the device has units for it (GPUs, CPUs with AMX or AVX-512 BF16)
    bfloat16: bool | None = False
    # "high", "medium": products of float32 matrices in TF32, bfloat16, where the processor has them (GPUs, AMX)
    matmul_precision: str = "highest"
    checkpoint_steps: int | None = None
    checkpoint_minutes: float | None = 5.0
    sample_every: int | None = None  # None or 0: never
    # the network is sharded over all processes (FSDP2); None: if several train a network of blocks
    shard: bool | None = False
    # if sharded: gradients are reduced after each batch, not only after a step's last one: less memory, more traffic
    reduce_every_batch: bool = False
    # so many processes share each window's tokens and draw the same batches; the network must be sharded
    context_parallel: int = 1
    compile: str | None = None  # torch.compile's backend for the blocks ("inductor"); None: they are not compiled
    max_skipped_steps: int = 0  # updates of the whole run that may be skipped because a number was not finite
    tensorboard: bool = False
    progress: bool = True

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether products are computed in bfloat16 on this device."""
        return multiplies_bfloat16(device) if self.bfloat16 is None else self.bfloat16

    @property
    def data_processes(self) -> int:
        """How many processes, or groups of processes that share their windows, draw batches of their own."""
        return distributed.world_size() // self.context_parallel

    @property
    def data_rank(self) -> int:
        """Which of them this process is, or belongs to."""
        return distributed.rank() // self.context_parallel

    def validate(self) -> None:
        """Raises ValueError for a setting out of range."""
        if self.accumulation < 1:
            raise ValueError(f"accumulation: expected at least 1 batch a step, got {self.accumulation}")
        if self.context_parallel < 1:
            raise ValueError(f"context_parallel: expected at least 1 process a window, got {self.context_parallel}")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise ValueError(
                f"checkpoint_steps: expected at least 1, got {self.checkpoint_steps}; null: by minutes only"
            )
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes >= 0:
            raise ValueError(f"checkpoint_minutes: expected 0 or more, got {self.checkpoint_minutes}; null: never")
        if self.sample_every is not None and self.sample_every < 0:
            raise ValueError(f"sample_every: expected a number of steps, got {self.sample_every}; 0 or null: never")
        if self.matmul_precision not in ("highest", "high", "medium"):
            raise ValueError(f"matmul_precision: expected highest, high or medium, got {self.matmul_precision!r}")
        if self.compile is not None:
            check_backend(self.compile, "compile")


class TrainingDiverged(FloatingPointError):
    """The loss or a gradient is not finite, or a step function raises this; the state before is in the run's folder."""


def fit(
    step_fn: StepFunction,
    state: TrainState,
    batches: Batches,
    *,
    num_steps: int,
    config: FitConfig | None = None,
    folder: Path | None = None,
    sample: Callable[[nn.Module, int], None] | None = None,
) -> TrainState:
    """Trains until `num_steps` updates are done; with a folder, first resumes exactly from what is there.

    On a GPU that is exact up to rounding, because fused attention and convolutions sum their gradients in any order.

    It changes torch's global state: generators are reseeded at every step, the precision of products is
    `config.matmul_precision`, and denormal numbers are flushed to zero.

    Args:
        step_fn: One stage's loss.
        state: What to train; its tensors change in place.
        batches: The data as a function of (step, micro).
        num_steps: Updates in all, those before a resume included.
        config: Settings; the defaults are the paper's schedule.
        folder: Gets `curve.jsonl` and `training_state.safetensors`; None keeps nothing.
        sample: Called every `config.sample_every` steps with the averaged module (in eval mode) and the step.

    Raises:
        TrainingDiverged: The loss or the gradient is not finite, or the step function raises it.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint written. SIGTERM does the same and raises SystemExit.
    """
    config = config or FitConfig()
    config.validate()
    if config.sample_every and sample is None:
        raise ValueError(
            f"sample_every: expected none for a stage that has no samples, got {config.sample_every}; drop it"
        )
    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.set_flush_denormal(True)  # layers that start at zero make denormals, which are slow on CPUs
    _check_shares(config, state)
    state.batches_a_step = config.accumulation * config.data_processes
    if folder:
        run_folder.restore(folder, state)
    if config.compile is not None:
        for block in sharding.blocks_of(state.module, "compile"):
            block.compile(backend=config.compile)
    module = state.module if sharding.is_sharded(state.module) else distributed.wrap(state.module)
    clock, is_stopped = _Clock(state), False
    with (
        StopRequest() as stop,
        Curve(folder, state.step, tensorboard=config.tensorboard) as curve,
        _progress_bar(state, num_steps, folder, config) as bar,
    ):
        while state.step < num_steps:
            try:
                record = _update(step_fn, module, state, batches, num_steps, config)
            except TrainingDiverged:
                if folder:
                    run_folder.save(folder, state)
                raise
            clock.tick()
            curve.write(state.step, {**record, "hours": state.elapsed_seconds / 3600})
            bar.update()
            hours = f"{state.elapsed_seconds / 3600:.2f}"
            bar.set_postfix({"loss": f"{record['loss']:.4f}", "hours": hours}, refresh=False)
            if sample is not None and config.sample_every and state.step % config.sample_every == 0:
                with_average(state, sample)
            is_stopped = stop.is_received_anywhere(state.device)
            if is_stopped or state.step == num_steps or clock.is_checkpoint_due(config):
                if folder:
                    run_folder.save(folder, state)
                clock.last_saved = time.monotonic()
            if is_stopped:
                break
    if is_stopped:  # printed after the progress bar is closed
        saved = f"saved at step {state.step}; the same command goes on"
        stop.raise_interrupt(saved if folder else f"stopped at step {state.step}; nothing is saved without a folder")
    return state


class _Clock:
    """Time since this call began, and since the last checkpoint."""

    def __init__(self, state: TrainState) -> None:
        self.state, self.earlier_seconds = state, state.elapsed_seconds
        self.begun = self.last_saved = time.monotonic()

    def tick(self) -> None:
        """Updates the state's elapsed time, which includes earlier runs."""
        self.state.elapsed_seconds = self.earlier_seconds + time.monotonic() - self.begun

    def is_checkpoint_due(self, config: FitConfig) -> bool:
        """By steps or by minutes; all processes agree."""
        if config.checkpoint_steps is not None and self.state.step % config.checkpoint_steps == 0:
            return True
        if config.checkpoint_minutes is None:
            return False
        is_late = time.monotonic() - self.last_saved > 60 * config.checkpoint_minutes
        return bool(distributed.broadcast_int(int(is_late), self.state.device))


def _update(
    step_fn: StepFunction, module: nn.Module, state: TrainState, batches: Batches, num_steps: int, config: FitConfig
) -> dict[str, float]:
    """One update of the parameters; returns its line of the curve."""
    lr = set_learning_rate(state.optimizers, learning_rate_share(state.step, num_steps, config.schedule))
    state.module.train()
    record = _accumulate_gradients(step_fn, module, state, batches, config)
    limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
    parts = state.parts or {"": state.module}
    norms = {name: sharding.clip_gradients(part.parameters(), limit) for name, part in parts.items()}
    norm = math.hypot(*norms.values())
    if math.isfinite(record["loss"]) and math.isfinite(norm):
        for optimizer in state.optimizers:
            optimizer.step()
        if state.ema:
            state.ema.update(state.module, state.step)
    else:
        _refuse(state, config, record["loss"], norm)
    state.module.zero_grad(set_to_none=True)
    state.step += 1
    record |= {f"grad_norm_{name}": value for name, value in norms.items() if name}
    return {**record, "lr": lr, "grad_norm": norm}


def _accumulate_gradients(
    step_fn: StepFunction, module: nn.Module, state: TrainState, batches: Batches, config: FitConfig
) -> dict[str, float]:
    """Leaves the mean gradient of all batches of this step; returns their mean loss and metrics."""
    totals: dict[str, list[Tensor | float]] = {}
    is_bfloat16 = config.uses_bfloat16(state.device)
    for micro in range(config.accumulation):
        # numbers a batch over all processes, so that a run can continue with more or fewer processes
        number = micro * config.data_processes + config.data_rank
        generator = generator_for(state.device, state.seed, state.step, number, 0)
        torch.manual_seed(generator.initial_seed())  # for layers with randomness of their own, such as dropout
        batch = to_device(batches(state.step, micro), state.device)
        is_last = micro == config.accumulation - 1
        with _gradient_sync(module, is_last or config.reduce_every_batch):
            with torch.autocast(state.device.type, torch.bfloat16, is_bfloat16):
                loss, metrics = step_fn(module, batch, generator)
            (loss / config.accumulation).backward()
        for name, value in {"loss": loss.detach(), **metrics}.items():
            totals.setdefault(name, []).append(value)
    record = {name: sum(map(float, values)) / len(values) for name, values in totals.items()}
    if distributed.is_distributed():  # not with one process, as Apple's GPUs have no float64
        loss = torch.tensor(record["loss"], dtype=torch.float64, device=state.device)
        record["loss"] = float(distributed.all_reduce_mean(loss))
    return record


def _refuse(state: TrainState, config: FitConfig, loss: float, norm: float) -> None:
    """Counts a skipped update, or stops the training."""
    state.module.zero_grad(set_to_none=True)
    if state.skipped_steps >= config.max_skipped_steps:
        raise TrainingDiverged(
            f"step {state.step}: expected a finite loss and gradient, got loss {loss} and norm {norm} "
            f"after {state.skipped_steps} skipped steps; lower the learning rate or raise max_skipped_steps"
        )
    state.skipped_steps += 1


def _gradient_sync(module: nn.Module, is_reduced: bool) -> Any:
    """Gradients of several batches are summed locally; only the last backward pass communicates."""
    if sharding.is_sharded(module):
        cast(Any, module).set_requires_gradient_sync(is_reduced)
    if is_reduced or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def _check_shares(config: FitConfig, state: TrainState) -> None:
    if config.shard and not sharding.is_sharded(state.module):
        raise ValueError("shard: expected false, got true; this stage trains whole networks")
    if config.reduce_every_batch and not sharding.is_sharded(state.module):
        raise ValueError("reduce_every_batch: expected false, it has no effect on a network that is not sharded")
    split = getattr(state.module, "split", None)
    if config.context_parallel != (1 if split is None else split.size):
        raise ValueError(
            f"context_parallel: expected 1, this stage does not split windows, got {config.context_parallel}"
        )


def with_average(state: TrainState, use: Callable[[nn.Module, int], None]) -> None:
    """Calls `use` on process 0 with the averaged module, in eval mode, and the step; all processes must call this."""
    if state.whole is not None:
        average = {} if state.ema is None else state.ema.parameters
        tensors = ((name, average.get(name, tensor)) for name, tensor in state.module.state_dict().items())
        module = sharding.gather(tensors, state.whole, state.device)
        if module is not None:
            with torch.no_grad():
                use(module.eval(), state.step)
    elif distributed.is_main():
        averaged = state.ema.applied_to(state.module) if state.ema else nullcontext(state.module)
        with averaged as module, torch.no_grad():
            use(module.eval(), state.step)
        state.module.train()
    distributed.wait_for_hours()


def _progress_bar(state: TrainState, num_steps: int, folder: Path | None, config: FitConfig) -> Any:
    is_hidden = not (config.progress and distributed.is_main())
    name = folder.name if folder else "training"
    return tqdm(total=num_steps, initial=state.step, disable=is_hidden, desc=name, mininterval=1)


def to_device(batch: Any, device: torch.device) -> Any:
    """Returns the batch on a device: a tensor, or tuples, named tuples, lists and dictionaries of tensors."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
