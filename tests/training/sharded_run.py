"""A small VideoDiT in training, which test_sharding.py also runs in two processes that share it."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training import distributed
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit, with_average
from model.training.lora import LoRAConfig, add_lora
from model.training.optim import OptimizerConfig, ScheduleConfig
from model.training.sharding import share_windows
from model.training.stage import StageConfig, train_state
from model.training.state import TrainState
from model.training.windows import LatentBatch

NUM_STEPS, NUM_BATCHES = 5, 4
SHAPE = VideoDiTConfig(
    in_channels=4, out_channels=4, width=24, num_heads=2, num_blocks=3, ffn_dim=48, text_dim=8, freq_dim=8,
    patch_size=[1, 1, 1], camera_init_std=0.1,
)  # fmt: skip


def small_dit() -> VideoDiT:
    """The same network in every process."""
    torch.manual_seed(3)
    dit = VideoDiT(SHAPE)
    nn.init.normal_(dit.head.linear.weight, std=0.1)
    return dit


def batch_of(step: int, micro: int, config: FitConfig | None = None) -> LatentBatch:
    """Two clips of batch number `micro` of this process."""
    config = config or FitConfig()
    number = micro * config.data_processes + config.data_rank
    draw = torch.Generator().manual_seed(100 * step + number)
    c2w = torch.eye(4).expand(2, 4, 4, 4).clone()
    c2w[..., :3, 3] = 0.2 * torch.randn(2, 4, 3, generator=draw)
    latents, text = torch.randn(2, 4, 4, 4, 4, generator=draw), torch.randn(2, 5, 8, generator=draw)
    return LatentBatch(latents, c2w, torch.tensor([[0.6, 1.0, 0.5, 0.5]] * 2), text, torch.ones(2, dtype=torch.bool))


def stage(context_parallel: int = 1, **settings: Any) -> StageConfig:
    """Four batches a step, however many processes there are."""
    loop = FitConfig(
        accumulation=NUM_BATCHES * context_parallel // distributed.world_size(),
        context_parallel=context_parallel,
        progress=False,
        schedule=ScheduleConfig(warmup_steps=2),
        checkpoint_steps=3,
        checkpoint_minutes=None,
        **settings,
    )
    return StageConfig(optimizer=OptimizerConfig(muon=False, lr=1e-2), fit=loop)


def train(
    folder: Path | None,
    *,
    killed_at: int | None = None,
    num_steps: int = NUM_STEPS,
    gradient_checkpointing: str = "none",
    rank: int = 0,
    stored: torch.dtype = torch.float32,
    **settings: Any,
) -> TrainState:
    """Trains to the end.

    `killed_at`: before this step process 1 ends by SIGKILL; `rank`: of adapters; `stored`: the base's type.
    """

    def batches(step: int, micro: int) -> LatentBatch:
        if step == killed_at and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch_of(step, micro, parts.fit)

    config = FlowMatchingConfig(context_shares={1: 1.0}, num_new=3, reference_jitter=0.0, text_dropout=0.5)
    step_fn = FlowMatchingStep(config, torch.zeros(5, 8), dit=SHAPE)
    parts = stage(**settings)
    dit = small_dit().to(stored)
    dit.gradient_checkpointing = gradient_checkpointing
    dit = add_lora(dit, LoRAConfig(rank=rank)) if rank else dit
    state = train_state(dit, parts, seed=5)
    if parts.fit.context_parallel > 1:
        share_windows(state.module, state.device, parts.fit.context_parallel)
    return fit(step_fn, state, batches, num_steps=num_steps, config=parts.fit, folder=folder)


def average(state: TrainState) -> dict[str, Tensor]:
    """The averaged network; empty but on process 0."""
    tensors: dict[str, Tensor] = {}
    with_average(state, lambda module, step: tensors.update({n: t.clone() for n, t in module.state_dict().items()}))
    return tensors


def main(folder: Path, kind: str) -> None:
    """`killed`: one process dies on the way; `whole`: the same run goes on, and others with other settings are made."""
    torch.set_num_threads(1)
    distributed.start()
    state = train(folder / "run", killed_at=3 if kind == "killed" else None, shard=True)
    save(average(state), folder / "average.safetensors")
    rounded: dict[str, Any] = {"bfloat16": True, "stored": torch.bfloat16, "gradient_checkpointing": "selective"}
    state = train(folder / "bfloat16", num_steps=2, shard=True, **rounded)
    save(average(state), folder / "average_bfloat16.safetensors")
    train(folder / "adapters", num_steps=4, shard=True, bfloat16=True, rank=2)
    compiled: dict[str, Any] = {"compile": "aot_eager", "reduce_every_batch": True}
    train(folder / "compiled", num_steps=2, shard=True, gradient_checkpointing="selective", **compiled)
    distributed.stop()


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """By process 0."""
    if distributed.is_main():
        save_file(tensors, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    sys.stderr.flush()
    os._exit(0)  # as in two_processes.py
