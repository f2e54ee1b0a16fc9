"""Stores the finished rows of a table, so that a run that was killed continues with the next row."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.fingerprint import fingerprint
from model.whole_file import whole_file, write_text

Row = dict[str, object]


@dataclass(frozen=True)
class FinishedRows:
    """A folder of films and of measured rows, each named by a fingerprint of all its inputs.

    So a world that was trained again, or another setting, never reads another one's results. Nothing is removed: delete
    the folder when the table is done, and before you use another version of this program, which it does not detect.
    """

    folder: Path

    def film(self, made_from: str, fly: Callable[[], UInt8[Tensor, "n f h w 3"]]) -> UInt8[Tensor, "n f h w 3"]:
        """Returns the stored film of these inputs; if there is none, flies and stores it."""
        path = self.folder / f"{fingerprint(made_from)[:16]}.safetensors"
        if path.exists():
            return load_file(path)["film"]
        film = fly()
        with whole_file(path) as partial:
            save_file({"film": film.contiguous()}, partial)
        return film

    def row(self, made_from: str, measure: Callable[[], Row]) -> Row:
        """Returns the stored row of these inputs; if there is none, measures and stores it."""
        path = self.folder / f"{fingerprint(made_from)[:16]}.json"
        if path.exists():
            row: Row = json.loads(path.read_text(encoding="utf-8"))
            return row
        row = measure()
        write_text(path, json.dumps(row, allow_nan=False))
        return row
