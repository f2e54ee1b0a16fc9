"""A folder belongs to one run at a time, and is free again once that run has ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.explore import ExploreConfig, explore
from model.file_lock import lock_folder

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys
from model.file_lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    input()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env=environment, stdin=-1, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as other:
        refusal = pytest.raises(ValueError, match=rf"^out: .*run is in use by process {other.pid};")
        with refusal, lock_folder(tmp_path / "run"):
            pass
        with lock_folder(tmp_path / "another"):
            pass
        other.send_signal(signal.SIGKILL)
    with lock_folder(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_the_run_made_goes_if_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bad setting"), lock_folder(tmp_path / "runs/one/run"):
        raise ValueError("a bad setting")
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path / "run"):
        (tmp_path / "run" / "curve.jsonl").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["curve.jsonl"]


def test_commands_of_agents_refuse_a_folder_in_use(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        try:
            with pytest.raises(ValueError, match=f"in use by process {process.pid}"):
                explore(ExploreConfig(world="synthetic", num_clips=1, out=str(tmp_path), progress=False))
        finally:
            process.kill()
