"""Runs independent jobs in processes with joblib: on one machine (loky) or, by the same command, a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from model.optional_dependency import require
from model.parent_watch import exit_with

_STREAMING = ("loky", "threading", "sequential")  # backends that return each result when it is ready


def run_all(
    function: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    *,
    num_workers: int,
    backend: str,
    bar: "tqdm[Any]",
    is_suspect: Callable[[int], bool] = lambda index: True,
) -> list[int]:
    """Calls the function with each tuple of arguments; returns the indices of jobs that kill their process.

    A process that dies (native code crashes, memory runs out) ends all processes of joblib's pool. Then every suspect
    job runs alone, which shows the job at fault, and the rest continues in parallel. With one worker the jobs run in
    this process, which then dies itself.

    Args:
        function: Must be importable by its name in another process.
        arguments: One tuple for each call.
        num_workers: Processes.
        backend: joblib's: loky, ray ...
        bar: Counts the jobs; it is closed at the end.
        is_suspect: Whether a job may have been running when a process died.

    Raises:
        ValueError: there is no worker, or no such backend.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers: expected at least 1, got {num_workers}")
    joblib = _joblib(backend)
    loky = require("joblib.externals.loky.process_executor")
    waiting, dead = list(range(len(arguments))), []
    with bar:
        while waiting:
            try:
                for index in _results(joblib, function, arguments, list(waiting), num_workers, backend):
                    waiting.remove(index)
                    bar.update()
            except loky.TerminatedWorkerError:
                for index in filter(is_suspect, list(waiting)):
                    try:
                        list(_results(joblib, function, arguments, [index], 2, backend))
                    except loky.TerminatedWorkerError:
                        dead.append(index)
                    waiting.remove(index)
                    bar.update()
    return dead


def _results(
    joblib: Any,
    function: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    indices: list[int],
    num_workers: int,
    backend: str,
) -> Iterator[int]:
    """Yields the indices of jobs as they end (at the end, where the backend does not report earlier)."""
    return_as = "generator_unordered" if backend in _STREAMING else "list"
    pool = joblib.Parallel(n_jobs=num_workers, backend=backend, batch_size=1, return_as=return_as)
    parent = os.getpid() if backend == "loky" else None  # a cluster's workers have other parents
    yield from pool(joblib.delayed(_indexed)(index, function, arguments[index], parent) for index in indices)


def _indexed(index: int, function: Callable[..., None], arguments: tuple[Any, ...], parent: int | None) -> int:
    if parent is not None:
        exit_with(parent)
    function(*arguments)
    return index


def _joblib(backend: str) -> Any:
    joblib = require("joblib")
    if backend == "ray":
        require("ray.util.joblib", extra="ray").register_ray()
    known = joblib.parallel.BACKENDS
    if backend not in known and backend not in joblib.parallel.EXTERNAL_BACKENDS:
        raise ValueError(f"backend: expected one of {sorted(known)} or ray, got {backend!r}")
    return joblib
