"""One pass over a film: the time of every frame, and the cuts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.film_frames import FilmFrame, UntrustedTimes, film_frames
from model.optional_dependency import require

_DETECTION_WIDTH = 256  # pixels: cuts are visible in thumbnails


def scan(path: str | Path, threshold: float, content: float) -> tuple[list[float], list[int], ValueError | None]:
    """Returns every frame's seconds, the numbers of the first frames after cuts, and the error if the film breaks off.

    Dissolves and fades are not found: they are no cuts.

    Args:
        path: The film.
        threshold: A cut's least change of picture, divided by that of the frames round it; 0: no cuts are sought.
        content: A cut's least mean change of hue, saturation and brightness (of 255).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no frame can be read, or the frames' times cannot be trusted.

    Source: PySceneDetect's adaptive detector: a cut is a change that is larger than those round it, so that a fast
    camera makes no cut.
    """
    times: list[float] = []
    broken: ValueError | None = None
    cuts = _Cuts(threshold, content) if threshold > 0 else None
    try:
        for frame in film_frames(path):
            times.append(frame.time)
            if cuts is not None:
                cuts.see(frame)
    except ValueError as error:
        if not times or isinstance(error, UntrustedTimes):
            raise
        broken = error
    return times, cuts.finish() if cuts is not None else [], broken


class _Cuts:
    """PySceneDetect, frame by frame; the end frames are repeated, since its window would hide cuts near them."""

    _WINDOW = 2

    def __init__(self, threshold: float, content: float) -> None:
        detectors = require("scenedetect.detectors")
        self._timecode = require("scenedetect").FrameTimecode
        self._detector = detectors.AdaptiveDetector(
            adaptive_threshold=threshold,
            min_content_val=content,
            window_width=self._WINDOW,
            min_scene_len=1,
        )
        self._seen = 0
        self._found: list[int] = []
        self._last: NDArray[np.uint8] | None = None

    def see(self, frame: FilmFrame) -> None:
        picture = np.ascontiguousarray(frame.rgb(min(1.0, _DETECTION_WIDTH / frame.width))[..., ::-1])
        for _ in range(self._WINDOW if self._last is None else 0):
            self._feed(picture)
        self._feed(picture)
        self._last = picture

    def finish(self) -> list[int]:
        for _ in range(self._WINDOW):
            if self._last is not None:
                self._feed(self._last)
        return [number - self._WINDOW for number in self._found if number > self._WINDOW]

    def _feed(self, picture: NDArray[np.uint8]) -> None:
        # numbers, not times: a variable rate must not change which frames are neighbours
        found = self._detector.process_frame(self._timecode(self._seen, 25.0), picture)
        self._found += [int(cut.frame_num) for cut in found]
        self._seen += 1
