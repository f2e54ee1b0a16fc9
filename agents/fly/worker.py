"""One thread that makes all clips: tabs take turns, and each can see how many jobs come before its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Worker:
    """Runs jobs one after another in order of arrival; each owner has at most one waiting job.

    Args:
        on_change: Called, in this thread, whenever the queue has advanced.
        on_failure: Called with the owner and the error of a job that raised; other jobs go on.
    """

    def __init__(
        self,
        on_change: Callable[[], None] = lambda: None,
        on_failure: Callable[[Any, BaseException], None] = lambda owner, error: None,
    ) -> None:
        self._on_change, self._on_failure = on_change, on_failure
        self._thread_of_jobs = ThreadPoolExecutor(1, "jobs")  # its futures keep exceptions
        self._jobs: dict[Any, Callable[[], None]] = {}  # in order of arrival
        self._running: Any = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def submit(self, owner: Any, job: Callable[[], None]) -> None:
        """Puts a job at the end of the queue, or in the place of this owner's job that already waits."""
        with self._changed:
            self._jobs[owner] = job
            self._changed.notify_all()

    def before(self, owner: Any) -> int | None:
        """Returns how many jobs of others come first; None if the owner has no waiting job."""
        with self._changed:
            if owner not in self._jobs:
                return None
            others = list(self._jobs).index(owner)
            return others + (self._running is not None and self._running is not owner)

    def cancel(self, owner: Any) -> None:
        """Removes an owner's waiting job, and waits until none of its jobs runs."""
        with self._changed:
            self._jobs.pop(owner, None)
            self._changed.wait_for(lambda: self._running is not owner)

    def close(self) -> None:
        """Stops after the running job."""
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join(timeout=60)
        self._thread_of_jobs.shutdown(wait=False)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._is_closed)
                if self._is_closed:
                    return
                self._running = next(iter(self._jobs))
                job = self._jobs.pop(self._running)
            self._on_change()
            error = self._thread_of_jobs.submit(job).exception()
            with self._changed:
                owner, self._running = self._running, None
                self._changed.notify_all()
            if error is not None:
                self._on_failure(owner, error)
