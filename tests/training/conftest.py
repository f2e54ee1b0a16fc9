"""Two processes that train together over gloo, and their scripts as modules of this one."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Launch = Callable[..., list[tuple[int, str]]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def script_module() -> Callable[[Path], ModuleType]:
    """Imports a script that the two processes run, to do the same in this process."""

    def imported(script: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(script.stem, script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.fixture(scope="session")
def two_processes() -> Launch:
    """Runs a script with arguments in two processes; returns each one's exit status and what it said on stderr."""

    def launch(script: Path, *arguments: str, num_processes: int = 2) -> list[tuple[int, str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(num_processes)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes = [
            subprocess.Popen(
                [sys.executable, str(script), *arguments],
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(num_processes)
        ]
        errors = [process.communicate(timeout=500)[1] for process in processes]
        return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]

    return launch
