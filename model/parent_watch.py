"""Workers end with the process that started them, even if that process was killed."""

import os
import signal
import threading
import time
from functools import cache

_SECONDS = 0.5


@cache  # once in each process, however many jobs call it
def exit_with(parent: int) -> None:
    """Ends this process soon after `parent`, the process that started it, is gone; does nothing in `parent` itself.

    From then on this process ignores Ctrl-C, which a terminal sends to both; the parent handles it.

    A thread polls the parent's process id, which works everywhere; a signal at the parent's end exists on Linux only.
    """
    if os.getpid() != parent:
        if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)  # sys.exit would end this thread only
