"""The result of every clip, a JSON line each, written to disk before the next clip begins."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from model.whole_file import whole_file

Verdict = Literal["kept", "unlabelled", "rejected"]


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """One clip, or one film that could not be read.

    Attributes:
        id: The clip's id, or the film's.
        source: The film.
        verdict: Kept with its camera, kept as video without one, or rejected.
        step: The clip's last step, which rejected a rejected clip: read, motion, poses, scale, balance.
        reason: Why it was not kept with its camera; empty if it was.
        numbers: What the steps measured, by `step.name`.
        seconds: How long each step took.
    """

    id: str
    source: str
    verdict: Verdict
    step: str
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Returns the line of the file; a number that is not finite becomes null."""
        values = asdict(self)
        values["numbers"] = {k: v if abs(v) < float("inf") else None for k, v in self.numbers.items()}
        values["seconds"] = {k: round(v, 3) for k, v in self.seconds.items()}
        # bytes of a file's name that are not UTF-8 come as lone surrogates, which JSON can only write escaped
        return json.dumps(values, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


class Ledger:
    """A ledger's file; one process writes. A killed writer's incomplete last line is removed by the next append."""

    def __init__(self, path: str | Path) -> None:
        """Reads the lines that are there; nothing is written before the first append."""
        self.path = Path(path)
        self._lines = {line.id: line for line in read_ledger(self.path)}

    def __contains__(self, line_id: str) -> bool:
        """Returns whether there is a line for the clip."""
        return line_id in self._lines

    def __iter__(self) -> Iterator[LedgerLine]:
        """Yields the lines in the order of writing."""
        return iter(self._lines.values())

    def append(self, line: LedgerLine) -> None:
        """Writes a line to the disk before it returns.

        Raises:
            ValueError: there is a line for that clip.
        """
        if line.id in self._lines:
            raise ValueError(f"id: expected a new clip, got {line.id!r} twice in {self.path}; rename one")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.truncate(_whole_bytes(self.path))
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._lines[line.id] = line


def read_ledger(path: str | Path) -> list[LedgerLine]:
    """Returns the complete lines of a ledger; none if there is no file.

    Raises:
        ValueError: a line is malformed.
    """
    path = Path(path)
    if not path.exists():
        return []
    if not path.is_file():  # reading a pipe would block
        raise ValueError(f"{path}: expected a ledger's file, got something else; name another folder")
    lines = []
    for number, row in enumerate(path.read_bytes()[: _whole_bytes(path)].split(b"\n")[:-1], start=1):
        try:
            values = json.loads(row.decode())
            values["numbers"] = {k: float("nan") if v is None else float(v) for k, v in values["numbers"].items()}
            values["seconds"] = {k: float(v) for k, v in values["seconds"].items()}
            if values["verdict"] not in get_args(Verdict):
                raise ValueError(f"verdict {values['verdict']!r}")
            line = LedgerLine(**values)
            if not all(isinstance(text, str) for text in (line.id, line.source, line.step, line.reason)):
                raise ValueError("an id, source, step or reason that is no text")
            lines.append(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{path}, line {number}: expected a line of a ledger, got: {repr(error)[:200]}") from error
    return lines


def write_ledger(path: str | Path, lines: Iterable[LedgerLine]) -> None:
    """Writes a whole ledger at once."""
    with whole_file(path) as partial:
        partial.write_bytes(b"".join(line.encode() for line in lines))


def _whole_bytes(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
