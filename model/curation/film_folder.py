"""The results for one film so far: its ledger and the records that passed, kept until the whole set is balanced."""

from pathlib import Path
from typing import IO

from model.curation.ledger import Ledger, LedgerLine
from model.data.manifest import ClipRecord, Manifest
from model.file_lock import lock

_LEDGER, _FINISHED, _LOCK = "ledger.jsonl", "finished", "lock"


class FilmFolder:
    """The work on one film, open to one process at a time.

    The lock ends with its process. So a run that is started right after a kill waits for workers that outlived their
    parent, and continues where they stopped. A clip's record is written before its ledger line: a clip without a line
    was interrupted, and is computed again.
    """

    def __init__(self, folder: str | Path) -> None:
        """Stores the folder's path; the folder is made when it is opened."""
        self.folder = Path(folder)
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> "FilmFolder":
        """Waits for the lock, then reads the ledger and the records."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / _LOCK).open("wb")
        lock(self._lock, wait=True)
        self._ledger = Ledger(self.folder / _LEDGER)
        self._manifest = Manifest(self.folder)
        if any(name not in self._ledger for name in self._manifest.ids):
            self._manifest.replace([record for record in self._manifest if record.id in self._ledger])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._lock is not None
        self._lock.close()

    def __contains__(self, line_id: str) -> bool:
        """Returns whether the clip has been processed."""
        return line_id in self._ledger

    @property
    def is_started(self) -> bool:
        """Whether a process has ever opened it."""
        return (self.folder / _LOCK).exists()

    @property
    def is_finished(self) -> bool:
        """Whether all clips of the film have been processed."""
        return (self.folder / _FINISHED).exists()

    def add(self, line: LedgerLine, record: ClipRecord | None = None) -> None:
        """Writes a clip's line; before it, the record if the clip passed."""
        assert (record is None) == (line.verdict == "rejected")
        if record is not None:
            self._manifest.append(record)
        self._ledger.append(line)

    def finish(self) -> None:
        """Marks the film as done; it is not opened again."""
        (self.folder / _FINISHED).touch()

    def lines(self) -> list[LedgerLine]:
        """Returns the ledger as it is on disk."""
        return list(Ledger(self.folder / _LEDGER))

    def records(self) -> list[ClipRecord]:
        """Returns the records of the clips that passed."""
        return list(Manifest(self.folder))
