"""The training curve: one JSON line a step, and TensorBoard with `tensorboard=true`."""

import json
import math
from pathlib import Path
from typing import Any

from model.training import distributed
from model.whole_file import write_text


class Curve:
    """Appends to `curve.jsonl`; lines beyond the step that a run resumes from are cut off first."""

    def __init__(self, folder: Path | None, step: int, *, tensorboard: bool = False) -> None:
        if tensorboard and folder is None:
            raise ValueError("tensorboard: expected a folder to write to, got none; give the run a folder")
        self._folder = folder if distributed.is_main() else None
        self._step, self._wants_tensorboard = step, tensorboard
        self._file: Any = None
        self._writer: Any = None

    def __enter__(self) -> "Curve":
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / "curve.jsonl"
            truncate(path, self._step)
            self._file = path.open("a")
            if self._wants_tensorboard:
                self._writer = _tensorboard_writer(self._folder, self._step)
        return self

    def __exit__(self, *exception: object) -> None:
        for stream in (self._file, self._writer):
            if stream is not None:
                stream.close()

    def write(self, step: int, record: dict[str, float]) -> None:
        """Adds a line. Numbers keep all their bits; those that are not finite become null."""
        if self._file is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in record.items():
                self._writer.add_scalar(name, value, step)


def truncate(path: Path, step: int) -> None:
    """Keeps the lines up to a step; an incomplete last line of a killed process is removed, too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            is_kept = line.endswith("\n") and json.loads(line)["step"] <= step
        except json.JSONDecodeError:
            is_kept = False
        if is_kept:
            kept.append(line)
    write_text(path, "".join(kept))


def _tensorboard_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "tensorboard: expected the package tensorboard, got none; install cameractrlworld[tensorboard]"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
