"""Ctrl-C and SIGTERM, as a terminal and a scheduler send them: one line, the shell's code, and the run goes on."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment", "said"),
    [
        (signal.SIGINT, "rendering clips", "stopped; the same command goes on"),
        (signal.SIGINT, "step 8:", "saved at step "),
        (signal.SIGTERM, "step 8:", "saved at step "),
    ],
)
def test_a_stopped_training_says_where_it_was_saved(tmp_path: Path, number: int, moment: str, said: str) -> None:
    options = ["experiment=debug", f"out={tmp_path}/vae", f"data.render_into={tmp_path}/data", "num_held_out=1"]
    long = ["training.num_steps=100000", "training.batch_size=1", "data.clips.num_clips=16", "data.clips.shard_size=1"]
    command = [sys.executable, "-m", "model.cli.train_vae", *options, *long]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    timer = threading.Timer(300, process.kill)
    timer.start()
    assert process.stdout is not None
    text = b""
    while moment.encode() not in text or (moment == "rendering clips" and b" 1/16 " not in text):
        byte = process.stdout.read(1)
        assert byte, text.decode()
        text += byte
    os.killpg(process.pid, number)  # a terminal's Ctrl-C is for the whole group
    rest = process.stdout.read().decode()
    timer.cancel()
    assert process.wait() == 128 + number
    assert "Traceback" not in rest and said in rest
    assert rest.strip().splitlines()[-1].startswith(said)
    if said == "saved at step ":
        assert (tmp_path / "vae/training_state.safetensors").exists()
