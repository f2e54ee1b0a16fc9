"""The only border between uint8 frames `f h w 3` and float video `b c f h w` in [-1, 1]; films and pictures on disk."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from model.mp4 import write_mp4
from model.whole_file import whole_file

Frames = UInt8[Tensor, "f h w 3"] | UInt8[np.ndarray, "f h w 3"]
Frame = UInt8[Tensor, "h w 3"] | UInt8[np.ndarray, "h w 3"]


def to_float(frames: UInt8[Tensor, "*b f h w 3"]) -> Float[Tensor, "*b 3 f h w"]:
    """Video in [-1, 1], float32, from bytes."""
    return (frames.float() / 127.5 - 1).movedim(-1, -4).contiguous()


def to_uint8(video: Float[Tensor, "*b 3 f h w"]) -> UInt8[Tensor, "*b f h w 3"]:
    """Bytes from video: rounded, and clamped to 0..255. Undoes `to_float` exactly."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-4, -1).contiguous()


def write_video(path: str | Path, frames: Frames, fps: float) -> None:
    """Writes an mp4, whole or not at all; odd sizes are padded by one pixel, since colours have half resolution.

    Raises:
        ValueError: the path does not end in .mp4, there are no frames, or fps is not positive.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"path: expected a name that ends in .mp4, got {Path(path).name!r}; rename the film")
    if len(frames) == 0 or not fps > 0:
        raise ValueError(f"frames: expected some, with fps > 0, got {len(frames)} and {fps}")
    _, height, width, _ = frames.shape
    pixels = np.pad(np.asarray(frames), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with whole_file(path) as partial:
        write_mp4(partial, pixels, fps, crf=16)


def write_image(path: str | Path, frame: Frame) -> None:
    """Writes a picture in the format that the ending of `path` names, whole or not at all.

    Raises:
        ValueError: the ending names no format.
    """
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"path: expected the ending of a picture such as .png, got {Path(path).name!r}; rename it")
    with whole_file(path) as partial:
        Image.fromarray(np.asarray(frame)).save(partial)
