"""The measurements of one film, stored on disk: a run that was stopped continues with the next film."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from model.curation.ledger import LedgerLine, Verdict
from model.tensor_file import load_tensors, save_tensors
from model.whole_file import write_text


@dataclass(kw_only=True)
class FilmResult:
    """The result of one film.

    Attributes:
        id: The film's id.
        source: The film's file.
        scene: The looks of films of one scene are compared.
        num_frames: Number of frames; 0 if the film could not be read.
        reasons: By failed step (read, motion, features, path), why it could not be measured.
        solved: Whether structure from motion was successful; None: it was not tried.
        unsolved: Why structure from motion was not successful.
        metrics: The measured values by name; values that could not be measured are absent.
        seconds: Time of the measurement.
        arrays: `clips`, features `k d` of every clip; `looks`, mean image features `k e` of every clip; `found` and
            `wanted`, aligned and commanded poses.
    """

    id: str
    source: str
    scene: str
    num_frames: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    solved: bool | None = None
    unsolved: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Returns everything but the arrays, for JSON."""
        return {name: value for name, value in vars(self).items() if name != "arrays"}

    def ledger_line(self) -> LedgerLine:
        """Returns the film's line of the ledger."""
        verdict: Verdict = "kept"
        if "read" in self.reasons:
            verdict = "rejected"
        elif self.reasons or self.solved is False:
            verdict = "unlabelled"
        said = [f"{step}: {reason}" for step, reason in self.reasons.items()]
        said += [f"structure from motion: {self.unsolved}"] if self.unsolved else []
        step = next(iter(self.reasons), "camera" if self.unsolved else "")
        return LedgerLine(id=self.id, source=self.source, verdict=verdict, step=step, reason="; ".join(said))


def save_result(folder: Path, result: FilmResult, key: str) -> None:
    """Writes `ID.safetensors`, then `ID.json`, whose presence says that both are complete.

    Args:
        folder: The folder of all results.
        result: The film's result.
        key: Identifies the film's contents and the settings; under another key it is measured again.
    """
    save_tensors(folder / f"{result.id}.safetensors", result.arrays, {"key": key})
    text = json.dumps({"key": key, **result.record()}, allow_nan=False, indent=1)
    write_text(folder / f"{result.id}.json", text)


def load_result(folder: Path, film_id: str, key: str) -> FilmResult | None:
    """Returns the result that was stored under the same key; None if there is none."""
    path = folder / f"{film_id}.json"
    if not path.is_file():
        return None
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
        arrays, texts = load_tensors(path.with_suffix(".safetensors"))
        if found["key"] != key or texts.get("key") != key:
            return None
        return FilmResult(**{name: value for name, value in found.items() if name != "key"}, arrays=arrays)
    except (ValueError, OSError, KeyError, TypeError):  # written by another version, or damaged: measured again
        return None
