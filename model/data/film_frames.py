"""Frames of any film that PyAV opens, one at a time, upright, with square pixels and their true times."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from model.optional_dependency import require

FILM_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv", ".gif"
)  # fmt: skip


class UntrustedTimes(ValueError):
    """A frame has no time, or its time is not after the previous frame's; then no frame of the film is used."""


@dataclass(frozen=True)
class FilmFrame:
    """A decoded frame; its pixels are converted only when they are read.

    Attributes:
        time: Seconds in the film; greater than that of the frame before.
        height: Pixels, upright.
        width: Pixels, upright, if they are square.
    """

    time: float
    height: int
    width: int
    _frame: Any
    _quarter_turns: int  # counterclockwise

    def rgb(self, shrink: float = 1.0) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the picture, upright, with each side multiplied by `shrink`."""
        height, width = (max(1, round(side * shrink)) for side in (self.height, self.width))
        if self._quarter_turns % 2:
            height, width = width, height
        picture = self._frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(picture, self._quarter_turns))


def film_frames(path: str | Path) -> Iterator[FilmFrame]:
    """Yields the frames of a film's first video stream, whatever its container, rate or rotation flag.

    No frame is left out: the camera path of a film with holes would jump.

    Raises:
        FileNotFoundError: there is no such file.
        UntrustedTimes: a frame has no time, or its time is not after the previous frame's.
        ValueError: it is no film, has no pictures, or breaks off; then all frames before the break were yielded.
    """
    av = require("av")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got none there; check the path")
    last = -float("inf")
    try:
        # a title in a wrong encoding must not reject a film whose pictures are good
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = _video_stream(path, container)
            for number, frame in enumerate(container.decode(stream)):
                if frame.time is None or not frame.time > last:
                    raise _untrusted(path, number, frame.time, last)
                last = float(frame.time)
                yield _film_frame(frame, stream.sample_aspect_ratio)
    except av.error.FFmpegError as error:
        where = f"breaks off after {last:.3f} s" if last > -float("inf") else "cannot be opened"
        raise ValueError(
            f"{path}: expected a film, got one that {where} ({error.strerror}); record it again"
        ) from error
    if last == -float("inf"):
        raise ValueError(f"{path}: expected a film, got one without frames; record it again")


def film_span(path: str | Path) -> tuple[float, float]:
    """Returns the seconds of a film's first and last frame; only the first is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no film, has no pictures, or does not say when they are shown.
    """
    av = require("av")
    first = next(film_frames(path)).time
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = _video_stream(Path(path), container)
            times = [packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None]
            return first, float(max(times) * stream.time_base)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected a film, got one that breaks off ({error}); record it again") from error


def _untrusted(path: Path, number: int, time: float | None, last: float) -> UntrustedTimes:
    found = "none" if time is None else f"{time:.3f} s after {last:.3f} s"
    return UntrustedTimes(
        f"{path}: expected a time after the last one's for every frame, got {found} for frame {number}; "
        "write the film again (ffmpeg -fflags +genpts -i FILM NEW.mp4)"
    )


def _video_stream(path: Path, container: Any) -> Any:
    # a song's cover picture is stored as a "video" of one frame
    cover = require("av").stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not pictures:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise ValueError(f"{path}: expected a video stream, got only {', '.join(kinds)}; leave the file out")
    return pictures[0]


def _film_frame(frame: Any, pixel_aspect: Any) -> FilmFrame:
    width = round(frame.width * float(pixel_aspect)) if pixel_aspect else frame.width
    turns = round(frame.rotation / 90) % 4
    height, width = (width, frame.height) if turns % 2 else (frame.height, width)
    return FilmFrame(float(frame.time), height, width, frame, turns)
