"""Locks on files and on the folder of a run. A lock ends with the process that holds it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


def lock(file: IO[Any], *, wait: bool = False) -> None:
    """Locks an open file until it is closed.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
        OSError: there are no locks here, as on Windows and in some network folders.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "no file locks on this system")
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Locks a folder, which is created if missing, for this run: a second run that wants to write there is refused.

    Where there are no locks, nothing is refused.

    Raises:
        ValueError: another process holds it; the message has its process id.
    """
    path = Path(folder) / _NAME
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock is released: who opens this name later creates a new file
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()  # a refused run leaves no empty folders


def _locked(path: Path) -> IO[str]:
    while True:
        file = path.open("a+")
        try:
            lock(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "unknown"
            file.close()
            raise ValueError(
                f"out: expected a folder that no other run writes to, {path.parent} is in use by process {holder}; "
                "wait for it, or name another"
            ) from None
        except OSError:
            return file  # there are no locks here
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()  # its holder removed it between our open and our lock
