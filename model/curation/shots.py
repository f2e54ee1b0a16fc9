"""Makes clips from films: split at cuts, resampled to one rate, cropped to one size; one clip in memory at a time."""

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.curation.cuts import scan
from model.data.cropping import crop_and_resize
from model.data.film_frames import film_frames


@dataclass(kw_only=True)
class ShotsConfig:
    """How films become clips.

    Attributes:
        fps: Frames per second of every clip; a film must have at least as many.
        height: Pixels; films are cropped about their centre to the aspect, then resized.
        width: Pixels.
        min_frames: Shots, and ends of shots, with fewer frames are left out.
        max_frames: Longer shots become several clips, end to end.
        cut_threshold: A cut's least change of picture, divided by that of the frames round it; 0: no cuts are sought.
        cut_content: A cut's least mean change of hue, saturation and brightness (of 255).
    """

    fps: float = 12.0
    height: int = 288
    width: int = 480
    min_frames: int = 24
    max_frames: int = 120
    cut_threshold: float = 3.0
    cut_content: float = 15.0

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: A number is out of its range.
        """
        if not self.fps > 0 or min(self.height, self.width) < 16:
            raise ValueError(
                f"fps, height, width: expected fps > 0 and sides of at least 16, got {self.fps}, {self.height}, "
                f"{self.width}"
            )
        if not 2 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"min_frames: expected at least 2 and at most max_frames = {self.max_frames}, got {self.min_frames}"
            )


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """A clip of one shot.

    Attributes:
        frames: Upright, at the size of the configuration.
        times: Seconds of every frame in the film, float64: the frames' own, within half a frame of a constant rate.
        shot: Number of the shot in the film.
        index: Number of the clip in the shot.
    """

    frames: UInt8[Tensor, "f h w 3"]
    times: Float[Tensor, " f"]
    shot: int
    index: int

    @property
    def fps(self) -> float:
        """Frames per second."""
        return (len(self.times) - 1) / float(self.times[-1] - self.times[0]) if len(self.times) > 1 else 1.0


@dataclass(frozen=True)
class ClipPlan:
    """The numbers of the film's frames that make a clip."""

    shot: int
    index: int
    numbers: tuple[int, ...]


def read_clips(path: str | Path, config: ShotsConfig) -> Iterator[ClipFrames]:
    """Yields the clips of a film in order of time; none, if no shot is long enough.

    The film is decoded twice, first at a small size for its times and cuts, so that only one clip is in memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no film, or has fewer frames per second than the clips; for a film that breaks off, the clips
            before the break are yielded first.

    Source: ours; the paper takes clips of 2 to 10 s (Sec. 4.1).
    """
    times, cuts, broken = scan(path, config.cut_threshold, config.cut_content)
    _check_rate(path, times, config.fps)
    yield from _read(path, plan_clips(times, cuts, config), config)
    if broken is not None:
        raise broken


def plan_clips(times: Sequence[float], cuts: Sequence[int], config: ShotsConfig) -> list[ClipPlan]:
    """Returns which frames make which clips: every frame at most once, no clip across a cut or a gap in time.

    In each shot, frames are chosen at a constant rate from its first frame on: the nearest frame to each instant. Where
    no frame lies within half an interval, a run of frames ends and the next begins: no frame is repeated.
    """
    bounds = [0, *(cut for cut in cuts if 0 < cut < len(times)), len(times)]
    plans = []
    for shot, (begin, end) in enumerate(itertools.pairwise(bounds)):
        windows = [window for run in _runs(times, begin, end, config.fps) for window in _windows(run, config)]
        plans += [ClipPlan(shot, index, tuple(window)) for index, window in enumerate(windows)]
    return plans


def _runs(times: Sequence[float], begin: int, end: int, fps: float) -> Iterator[list[int]]:
    while begin < end:
        run = [begin]
        while (following := _nearest(times, run[-1] + 1, end, times[begin] + len(run) / fps)) is not None:
            if abs(times[following] - times[begin] - len(run) / fps) >= 0.5 / fps:
                break
            run.append(following)
        yield run
        begin = run[-1] + 1


def _nearest(times: Sequence[float], begin: int, end: int, instant: float) -> int | None:
    at = bisect_left(times, instant, begin, end)
    candidates = [number for number in (at - 1, at) if begin <= number < end]
    return min(candidates, key=lambda number: abs(times[number] - instant), default=None)


def _windows(run: list[int], config: ShotsConfig) -> Iterator[list[int]]:
    for first in range(0, len(run), config.max_frames):
        window = run[first : first + config.max_frames]
        if len(window) >= config.min_frames:
            yield window


def _check_rate(path: str | Path, times: list[float], fps: float) -> None:
    """Refuses a film that is too slow; 1 % is allowed, because 11.988 is called 12."""
    if len(times) < 2:
        return
    rate = 1 / float(np.median(np.diff(times)))
    if rate < 0.99 * fps:
        raise ValueError(f"{path}: expected at least {fps:g} frames a second, got {rate:.3g}; lower fps")


def _read(path: str | Path, plans: list[ClipPlan], config: ShotsConfig) -> Iterator[ClipFrames]:
    waiting = iter(plans)
    plan = next(waiting, None)
    frames: list[NDArray[np.uint8]] = []
    times: list[float] = []
    for number, frame in enumerate(film_frames(path)):
        if plan is None:
            return
        if number != plan.numbers[len(frames)]:
            continue
        frames.append(crop_and_resize(frame.rgb(), config.height, config.width))
        times.append(frame.time)
        if len(frames) == len(plan.numbers):
            seconds = torch.tensor(times, dtype=torch.float64)
            yield ClipFrames(torch.from_numpy(np.stack(frames)), seconds, plan.shot, plan.index)
            frames, times, plan = [], [], next(waiting, None)
