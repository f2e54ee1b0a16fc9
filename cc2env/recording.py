"""Films on disk: every frame, mp4 or gif, written whole or not at all."""

from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from model.mp4 import write_mp4
from model.whole_file import whole_file

FORMATS = (".mp4", ".gif")


def write_film(
    path: str | PathLike[str], frames: UInt8[np.ndarray, "f h w 3"], fps: float | int, scale: int = 1
) -> Path:
    """Writes frames as a film and returns its path; a crash leaves no partial file.

    Args:
        path: Ends in .mp4 (H.264) or .gif; its folder is made.
        frames: At least one frame.
        fps: Frames per second. GIF keeps time in hundredths of a second.
        scale: Enlarges each side by this factor (smoothly), since 80 x 48 pixels are small on a screen.

    Raises:
        ValueError: The path has another ending, there is no frame, or scale is less than 1.
        OSError: The disk is full, or the folder is not writable.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"path: expected a film ending in {' or '.join(FORMATS)}, got {path.name}; rename it")
    if not len(frames):
        raise ValueError("frames: expected at least one frame, got none; record an episode first")
    if scale < 1:
        raise ValueError(f"scale: expected an integer of at least 1, got {scale}")
    size = (frames[0].shape[1] * scale, frames[0].shape[0] * scale)
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    with whole_file(path) as partial:
        if path.suffix == ".gif":
            pictures[0].save(partial, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)
        else:
            write_mp4(partial, np.stack([np.asarray(picture) for picture in pictures]), fps, crf=14)
    return path
