"""Finds the films and pictures of a data set's cameras."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from model.data.film_frames import FILM_SUFFIXES, film_span

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_SLACK = 0.1  # seconds; time stamps of other tools may lie a little behind the film's last frame


def find_film(folder: Path, name: str) -> Path | None:
    """Returns the film of that name in the folder, with any ending of a film."""
    return _with_suffix(folder / name, FILM_SUFFIXES)


def find_pictures(folder: Path, names: Sequence[str], directory: str | None = None) -> tuple[str, ...]:
    """Returns the frames' files, relative to the folder; names may lack their ending or have backslashes.

    Args:
        folder: The folder to which the names are relative.
        names: One for each frame.
        directory: Replaces the first directory of every name (nerfstudio's `images`), or precedes a name without one.

    Raises:
        ValueError: pictures are missing.
    """
    wanted = [name if directory is None else _moved(name, directory) for name in names]
    found = [_find_picture(folder, name) for name in wanted]
    missing = [name for name, file in zip(wanted, found, strict=True) if file is None]
    if missing:
        raise ValueError(
            f"{folder}: expected a picture for each of {len(names)} frames, {len(missing)} are missing: "
            f"{missing[0]}; check media="
        )
    return tuple(file for file in found if file is not None)


def times_in_film(path: Path, times: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """Returns the times at which a film shows the frames: unchanged, or from its start if it was cut to them.

    Raises:
        ValueError: the film cannot be read, or is neither whole nor cut to these times.
    """
    first, last = film_span(path)
    step = float(times.diff().median()) if len(times) > 1 else 0.0
    cut = times - times[0] + first
    if times[-1] <= last + step / 2 and times[0] >= first - step / 2:
        return times
    if abs(float(cut[-1]) - last) <= max(1.5 * step, _SLACK / 2):
        return cut
    if times[-1] < last + _SLACK and times[0] > first - _SLACK:
        return times
    raise ValueError(
        f"{path}: expected a film that shows {float(times[0]):.3f} to {float(times[-1]):.3f} s, or one cut to that "
        f"length, got one from {first:.3f} to {last:.3f} s; get the whole film"
    )


def _moved(name: str, directory: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part != "."]
    return "/".join([directory, *(parts[1:] if len(parts) > 1 else parts)])


def _find_picture(folder: Path, name: str) -> str | None:
    for candidate in dict.fromkeys((name, name.replace("\\", "/"))):
        path = folder / candidate
        if path.is_file():
            return candidate
        if (found := _with_suffix(path, PICTURE_SUFFIXES)) is not None:
            return candidate + found.name.removeprefix(path.name)
    return None


def _with_suffix(path: Path, suffixes: Sequence[str]) -> Path | None:
    candidates = (path.with_name(path.name + end) for suffix in suffixes for end in (suffix, suffix.upper()))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
