"""Training steps of a VideoDiT on one random clip each, timed; by torchrun: of a network that all processes share.

    torchrun --nproc-per-node=N tests/benchmarks/training_step.py cuda '{"context_parallel": 2}'

The settings are those of `FitConfig`. Process 0 prints the seconds of a step and the most memory of its device in GiB.
With SMALL=1 in the environment the network and its clip are small.
"""

import json
import os
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training import distributed
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig
from model.training.sharding import share_windows
from model.training.stage import StageConfig, train_state
from model.training.windows import LatentBatch

SMALL = os.environ.get("SMALL") == "1"
FIRST = 3  # steps that are not counted: they compile, and make AdamW's moments


@dataclass(frozen=True)
class TrainedClip:
    """A clip that a step learns from, image to video: latent frames of `rows` x `columns`, and its text."""

    num_frames: int
    rows: int
    columns: int
    text_tokens: int


# Wan 2.1 1.3B on the clips of `wan_phase1`, at 480x832
DIT, CLIP = VideoDiTConfig(), TrainedClip(13, 60, 104, 512)
if SMALL:
    DIT = VideoDiTConfig(width=24, num_heads=2, num_blocks=2, ffn_dim=32, text_dim=8, freq_dim=8)
    CLIP = TrainedClip(13, 4, 8, 3)


def synchronize(device: torch.device) -> None:
    """Waits for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: torch.device) -> float:
    """The most memory since it was last forgotten; 0 on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.type == "cuda" else 0.0


def stage_of(loop: FitConfig) -> StageConfig:
    """All parameters, AdamW."""
    return StageConfig(optimizer=OptimizerConfig(muon=False), fit=loop)


def step_seconds(dit: VideoDiT, loop: FitConfig, clip: TrainedClip, device: torch.device, num_steps: int = 12) -> float:
    """The median time of a step, after the first ones."""
    state = train_state(dit, stage_of(loop), seed=0, device=device)
    if loop.context_parallel > 1:
        share_windows(state.module, device, loop.context_parallel)
    windows = FlowMatchingConfig(context_shares={1: 1.0}, num_new=clip.num_frames - 1, reference_jitter=0.0)
    null_text = torch.zeros(clip.text_tokens, dit.config.text_dim, device=device)
    batch = LatentBatch(
        latents=torch.randn(1, dit.config.in_channels, clip.num_frames, clip.rows, clip.columns),
        c2w=torch.eye(4).expand(1, clip.num_frames, 4, 4),
        intrinsics=torch.tensor([[0.6, 1.0, 0.5, 0.5]]),
        text=torch.randn(1, clip.text_tokens, dit.config.text_dim),
        labelled=torch.ones(1, dtype=torch.bool),
    )
    batch, starts = LatentBatch(*(tensor.to(device) for tensor in batch)), []

    def batches(step: int, micro: int) -> LatentBatch:
        synchronize(device)
        starts.append(time.perf_counter())
        return batch

    fit(FlowMatchingStep(windows, null_text, dit=dit.config), state, batches, num_steps=num_steps, config=loop)
    return float(np.median(np.diff(starts)[FIRST:]))


def main() -> None:
    """One process of several."""
    device = distributed.start(sys.argv[1])
    loop = FitConfig(bfloat16=True, shard=True, progress=False, **json.loads(sys.argv[2]))
    torch.manual_seed(0)
    dit = VideoDiT(DIT)
    dit.gradient_checkpointing = "selective"
    seconds = step_seconds(dit, loop, CLIP, device)
    if distributed.is_main():
        print(json.dumps({"seconds": seconds, "peak_gib": peak_gib(device)}))
    distributed.stop()


if __name__ == "__main__":
    main()
