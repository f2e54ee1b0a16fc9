"""Films as H.264 in mp4 by moviepy's ffmpeg. Frames are counted, as a full disk truncates a film without an error."""

import contextlib
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter


def write_mp4(path: Path, frames: UInt8[np.ndarray, "f h w 3"], fps: float, crf: int) -> None:
    """Writes all frames; if a side is odd, colours are stored at full resolution, which some players do not show.

    Args:
        path: Ends in .mp4.
        frames: At least one.
        fps: Frames a second.
        crf: ffmpeg's constant rate factor: 0 loses nothing, 23 is usual.

    Raises:
        OSError: the disk is full, or the place cannot be written to.
    """
    height, width = frames.shape[1:3]
    # moviepy's low-level writer: its clips ask for frames by their times and may lose the last one
    writer = FFMPEG_VideoWriter(
        str(path), (width, height), fps, preset="medium", ffmpeg_params=["-crf", str(crf), "-movflags", "+faststart"]
    )
    with contextlib.suppress(OSError), writer:  # the error is twelve lines of ffmpeg's log; the count says it in one
        for frame in frames:
            writer.write_frame(np.ascontiguousarray(frame))
    require_frames(path, len(frames))


def require_frames(film: Path, count: int) -> None:
    """Checks that a film has all of its frames: on a full disk ffmpeg leaves a truncated file.

    Raises:
        OSError: it has fewer, or cannot be read.
    """
    try:
        found, _ = imageio_ffmpeg.count_frames_and_secs(str(film))
    except RuntimeError:
        found = 0
    if found != count:
        raise OSError(f"ffmpeg wrote {found} of {count} frames")
