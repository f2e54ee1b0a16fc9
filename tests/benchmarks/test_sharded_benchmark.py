"""A training step of a network that several CUDA devices share, at the full shape of Wan 2.1 1.3B (random weights).

With SMALL=1 in the environment two processes on a CPU run the same lines: those figures mean nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from training_step import CLIP, DIT, SMALL, stage_of

from model.dit.video_dit import VideoDiT
from model.training.loop import FitConfig
from model.training.plan import WindowShape, training_memory, window_cost
from model.training.step_memory import step_bytes

NUM_DEVICES = 2 if SMALL else torch.cuda.device_count()
pytestmark = pytest.mark.skipif(NUM_DEVICES < 2 or NUM_DEVICES % 2, reason="needs an even number of CUDA devices")

BACKEND = "aot_eager" if SMALL else "inductor"
SETTINGS: dict[str, dict[str, Any]] = {
    "sharded": {},
    "compiled": {"compile": BACKEND},
    "windows shared by two": {"context_parallel": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_wan_training_step_of_several_devices(benchmark: BenchmarkFixture, name: str) -> None:
    """`planned_gib` is what `model.cli.plan` says of each device."""
    script, root = Path(__file__).with_name("training_step.py"), Path(__file__).parents[2]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={NUM_DEVICES}"]
    command = [*launch, str(script), "cpu" if SMALL else "cuda", json.dumps(SETTINGS[name])]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    lines: list[str] = []

    def run() -> None:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-3000:]
        lines.extend(ended.stdout.splitlines())

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(json.loads(lines[-1]), devices=NUM_DEVICES)
    loop = FitConfig(bfloat16=True, shard=True, **SETTINGS[name])
    window = WindowShape(CLIP.num_frames, 1, CLIP.rows, CLIP.columns, CLIP.text_tokens)
    with torch.device("meta"):
        dit = VideoDiT(DIT)
    dit.gradient_checkpointing = "selective"
    held = sum(training_memory(dit, stage_of(loop), NUM_DEVICES).values())
    planned = held + step_bytes(dit, window, 1, True, is_sharded=True) / loop.context_parallel
    benchmark.extra_info["planned_gib"] = round(planned / 2**30, 2)
    clips = NUM_DEVICES / loop.context_parallel  # a step of all devices
    flops = window_cost(DIT, window, "none").training * clips / NUM_DEVICES
    benchmark.extra_info["tflop_per_second_of_a_device"] = round(flops / benchmark.extra_info["seconds"] / 1e12, 1)
