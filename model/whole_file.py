"""Writing a file or a folder whole or not at all: a killed writer leaves what was there before.

An unfinished file or folder is in a hidden folder `.partial-*` beside its place, which its writer locks while it runs.
The next process that writes beside it removes the hidden folders of killed writers.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

from model.file_lock import lock

_PREFIX, _LOCK = ".partial-", ".lock"


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path of the same name for a `with` block to write to; if the block succeeds, it becomes `path`.

    The folder is created. Contents are on the disk before the rename, so a power cut leaves the old or the new file.

    Raises:
        ValueError: if there is something at `path` that is no file: a folder, a device, a pipe.
        OSError: the disk is full, or the place cannot be written to.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected the name of a file to write, got a folder or a device; name another")
    with _workplace(path.parent) as workplace:
        partial = workplace / path.name
        try:
            yield partial
        except OSError as error:
            if error.filename is not None:  # from opening a file, which the error names
                raise
            raise OSError(f"{path}: cannot be written; is the disk full? ({error})") from error
        partial.chmod(_ordinary_mode(workplace))  # safetensors, for example, makes files that only their owner can read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder for a `with` block to fill; if the block succeeds, it replaces `folder` and its contents.

    Replacing a folder takes two renames, and the process may be killed between them. So the new one is first renamed to
    a fixed name beside the old one, where `standing_folder` finds it.
    """
    folder = Path(folder).absolute()
    with _workplace(folder.parent) as workplace:
        partial = workplace / folder.name
        partial.mkdir()
        yield partial
        for file in partial.iterdir():
            flush(file)
        flush(partial)
        ready = _ready_sibling(folder)
        if ready.exists():  # an earlier writer was killed: `folder` is whole if it exists, else `ready` is
            if folder.exists():
                os.rename(ready, workplace / "never moved")
            else:
                os.rename(ready, folder)
        os.rename(partial, ready)
        if folder.exists():
            os.rename(folder, workplace / "replaced")
        os.rename(ready, folder)
        flush(folder.parent)


def standing_folder(folder: str | Path) -> Path:
    """The folder, or the whole new one that a killed `whole_folder` had not moved there yet."""
    folder = Path(folder)
    ready = _ready_sibling(folder.absolute())
    return ready if not folder.exists() and ready.exists() else folder


def flush(path: Path) -> None:
    """Forces a file or folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ready_sibling(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.ready")


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A locked folder in `parent`, which is created if missing; removed at the end with all that is still in it."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent.resolve())
    workplace, file = _locked_folder(parent)
    with file:
        try:
            yield workplace
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, IO[bytes]]:
    while True:
        workplace = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            file = (workplace / _LOCK).open("wb")
            with suppress(OSError):  # without locks, no folder is taken for a leftover either
                lock(file, wait=True)
            if workplace.exists():
                return workplace, file
            file.close()  # another process took it for a leftover before it was locked


@lru_cache(maxsize=4096)  # once a process: many small files may be written into one folder
def _remove_leftovers(parent: Path) -> None:
    """Removes what killed writers left in a folder."""
    for leftover in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (leftover / _LOCK).open("wb") as file:
            lock(file)
            shutil.rmtree(leftover, ignore_errors=True)


def _ordinary_mode(folder: Path) -> int:
    """The permissions that a new file gets from the user's umask, which can only be read by making one."""
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode
