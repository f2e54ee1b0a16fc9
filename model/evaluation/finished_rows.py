"""What has been done of a table, row by row: a table that was killed goes on with the next row."""

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
    """A folder of films and of measured rows, each named by a fingerprint of all that it was made from.

    So a world that was trained anew, or another setting, never meets what another one left. Nothing is removed: delete
    the folder when the table is done, and before another version of this program is used, which it does not notice.
    """

    folder: Path

    def film(self, made_from: str, fly: Callable[[], UInt8[Tensor, "n f h w 3"]]) -> UInt8[Tensor, "n f h w 3"]:
        """The film that was flown from this before; otherwise it is flown now, and kept."""
        path = self.folder / f"{fingerprint(made_from)[:16]}.safetensors"
        if path.exists():
            return load_file(path)["film"]
        film = fly()
        with whole_file(path) as partial:
            save_file({"film": film.contiguous()}, partial)
        return film

    def row(self, made_from: str, measure: Callable[[], Row]) -> Row:
        """The row that was measured from this before; otherwise it is measured now, and kept."""
        path = self.folder / f"{fingerprint(made_from)[:16]}.json"
        if path.exists():
            row: Row = json.loads(path.read_text(encoding="utf-8"))
            return row
        row = measure()
        write_text(path, json.dumps(row, allow_nan=False))
        return row
