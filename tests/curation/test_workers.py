"""Jobs over processes: all are done, whichever process dies; the one that kills its process is named."""

import os
import signal
from pathlib import Path

import pytest
from tqdm import tqdm

from model.curation.workers import run_all

pytest.importorskip("joblib")


def write(folder: Path, name: str) -> None:
    (folder / name).touch()


def write_or_die(folder: Path, name: str) -> None:
    (folder / f"started {name}").touch()
    if name == "3":
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder, name)


@pytest.mark.parametrize(("backend", "num_workers"), [("loky", 1), ("threading", 3)])
def test_every_job_is_done_once(tmp_path: Path, backend: str, num_workers: int) -> None:
    jobs = [(tmp_path, str(k)) for k in range(7)]
    assert run_all(write, jobs, num_workers=num_workers, backend=backend, bar=tqdm()) == []
    assert len(list(tmp_path.iterdir())) == 7


@pytest.mark.slow
def test_a_job_that_kills_its_process_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    dead = run_all(
        write_or_die,
        [(tmp_path, str(k)) for k in range(7)],
        num_workers=2,
        backend="loky",
        bar=tqdm(),
        is_suspect=lambda k: (tmp_path / f"started {k}").exists() and not (tmp_path / str(k)).exists(),
    )
    assert dead == [3]
    assert all((tmp_path / str(k)).exists() == (k != 3) for k in range(7))


@pytest.mark.slow
def test_every_job_is_done_on_ray(tmp_path: Path) -> None:
    """On a local Ray, where it is installed: pip install 'cameractrlworld[ray]'."""
    pytest.importorskip("ray")
    jobs = [(tmp_path, str(k)) for k in range(7)]
    assert run_all(write, jobs, num_workers=2, backend="ray", bar=tqdm()) == []
    assert len(list(tmp_path.iterdir())) == 7


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_workers: expected at least 1, got 0"):
        run_all(write, [(tmp_path, "a")], num_workers=0, backend="loky", bar=tqdm())
    with pytest.raises(ValueError, match="backend: expected one of"):
        run_all(write, [(tmp_path, "a")], num_workers=1, backend="slurm", bar=tqdm())
