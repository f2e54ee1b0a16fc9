"""The films of a folder: their ids, and the captions stored beside them."""

import re
from dataclasses import dataclass
from pathlib import Path

from model.data.film_frames import FILM_SUFFIXES
from model.fingerprint import fingerprint

_LONGEST_NAME = 80
_HEAD = 65536  # bytes whose digest distinguishes films of one name


@dataclass(frozen=True)
class Film:
    """A film's file, an id that is fit for file names, and the author's caption."""

    id: str
    path: Path
    caption: str = ""


def find_films(videos: str | Path) -> list[Film]:
    """Returns the films in a folder and below it, in the order of their paths; or the one film that `videos` names.

    A film's id is its path inside the folder with a digest of that path, the file's size and its beginning. It does not
    depend on where the folder is, and differs for another film of the same name. The caption is the content of the
    text file of the same name (`NAME.txt` beside `NAME.mp4`).

    Raises:
        FileNotFoundError: there is no film.
    """
    root = Path(videos).resolve()
    if root.is_file():
        return [_film(root.parent, root)]
    paths = [path for path in root.rglob("*") if path.suffix.lower() in FILM_SUFFIXES and path.is_file()]
    inside = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not inside:
        raise FileNotFoundError(
            f"videos: expected films such as .mp4 or .mov, found none in {videos}; check the folder"
        )
    return [_film(root, path) for path in sorted(inside)]


def _film(root: Path, path: Path) -> Film:
    relative = path.relative_to(root).as_posix()
    name = re.sub(r"[^A-Za-z0-9]+", "_", relative.rpartition(".")[0]).strip("_") or "film"
    caption = path.with_suffix(".txt")
    text = caption.read_text(encoding="utf-8", errors="replace") if caption.is_file() else ""
    return Film(f"{name[:_LONGEST_NAME]}-{_digest(relative, path)}", path, " ".join(text.split()))


def _digest(relative: str, path: Path) -> str:
    with path.open("rb") as file:
        parts = (relative.encode("utf-8", "surrogateescape"), b"%d" % path.stat().st_size, file.read(_HEAD))
    return fingerprint(b"\n".join(parts))[:10]
