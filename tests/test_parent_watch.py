"""Workers end when the process that started them was killed, whichever pool they are of."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
RENDERING = """
    import sys
    from pathlib import Path
    from model.data.clips import ClipSetConfig, render_clip_set
    if __name__ == "__main__":
        config = ClipSetConfig(num_clips=64, num_latents=33, height=200, width=320, shard_size=16)
        render_clip_set(Path(sys.argv[1]), config, num_workers=2)
"""
JOBLIB = """
    import sys, time
    from tqdm import tqdm
    from model.curation.workers import run_all
    if __name__ == "__main__":
        run_all(time.sleep, [(600,), (600,)], num_workers=2, backend="loky", bar=tqdm())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("program", [RENDERING, JOBLIB], ids=["rendering", "joblib"])
def test_workers_end_with_their_parent(tmp_path: Path, program: str, number: int) -> None:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "clips")], env=environment) as parent:
        try:
            workers = _at_work(parent.pid)
            parent.send_signal(number)
        except BaseException:
            parent.kill()
            raise
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive


def _at_work(parent: int, seconds: float = 90) -> list[psutil.Process]:
    """The two workers, once both have started their jobs: their modules are loaded, and the watch runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        children = psutil.Process(parent).children(recursive=True)
        workers = [child for child in children if child.num_threads() > 1]
        if len(workers) >= 2:
            time.sleep(2)
            return children
        time.sleep(0.2)
    raise AssertionError("expected two workers at work")
