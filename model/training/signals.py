"""SIGTERM and Ctrl-C become a request: the loop finishes its step, saves, and then leaves."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import torch

from model.training import distributed


class StopRequest:
    """Inside the `with` block, the first SIGTERM or SIGINT is kept for later; a second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def is_received_anywhere(self, device: torch.device) -> bool:
        """Whether any process has received a signal."""
        received = torch.tensor(float(self.received is not None), device=device)
        return bool(distributed.all_reduce_mean(received) > 0)

    def raise_interrupt(self, said: str) -> None:
        """Raises KeyboardInterrupt with the message `said`, or prints it and raises SystemExit as a shell would."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt(said)
        print(f"\n{said}", file=sys.stderr)
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: not set from Python
        self._previous = {}
