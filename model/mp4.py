"""Films as H.264 in mp4, by ffmpeg; whole, which ffmpeg's makers do not ask."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8


def write_mp4(path: Path, frames: UInt8[np.ndarray, "f h w 3"], fps: float, crf: int) -> None:
    """Writes all frames; where a side is odd, colours have full resolution, which some players do not show.

    Args:
        path: Ends in .mp4.
        frames: At least one.
        fps: Frames a second.
        crf: ffmpeg's constant rate factor: 0 loses nothing, 23 is usual.

    Raises:
        OSError: the disk is full, or the place cannot be written to.
    """
    height, width = frames.shape[1:3]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec="libx264",
        macro_block_size=1,
        quality=None,
        pix_fmt_out="yuv420p" if height % 2 == width % 2 == 0 else "yuv444p",
        output_params=["-crf", str(crf), "-movflags", "+faststart"],
        ffmpeg_log_level="error",
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    require_frames(path, len(frames))


def require_frames(film: Path, count: int) -> None:
    """Checks that a film has all of its frames: on a full disk ffmpeg leaves a part.

    Raises:
        OSError: it has fewer, or cannot be read.
    """
    try:
        found, _ = imageio_ffmpeg.count_frames_and_secs(str(film))
    except RuntimeError:
        found = 0
    if found != count:
        raise OSError(f"ffmpeg wrote {found} of {count} frames")
