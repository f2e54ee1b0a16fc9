"""The only border between uint8 frames `f h w 3` and float video `b c f h w` in [-1, 1]; film and image files.

Every write goes to a temporary file first, so that a reader never meets half a film.
"""

from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from model.mp4 import write_mp4
from model.picture_file import open_picture, read_picture
from model.whole_file import whole_file

_MOST_GIF_PIXELS = 2**28  # of all frames together, which become 0.8 GB

Frames = UInt8[Tensor, "f h w 3"] | UInt8[np.ndarray, "f h w 3"]
AnyClip = UInt8[Tensor, "_ h w 3"] | UInt8[np.ndarray, "_ h w 3"]  # Of any length.
Frame = UInt8[Tensor, "h w 3"] | UInt8[np.ndarray, "h w 3"]


def to_float(frames: UInt8[Tensor, "*b f h w 3"]) -> Float[Tensor, "*b 3 f h w"]:
    """Video in [-1, 1], float32, from bytes."""
    return (frames.float() / 127.5 - 1).movedim(-1, -4).contiguous()


def to_uint8(video: Float[Tensor, "*b 3 f h w"]) -> UInt8[Tensor, "*b f h w 3"]:
    """Bytes from video: rounded, and clamped to 0..255. Undoes `to_float` exactly."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-4, -1).contiguous()


def write_video(path: str | Path, frames: Frames, fps: float | int, scale: int = 1) -> None:
    """Writes a film, H.264 or GIF by the ending of `path`.

    Args:
        path: Ends in `.mp4` or `.gif`; folders are made.
        frames: At least one. Odd sizes are padded by one pixel in an mp4, whose colours have half resolution.
        fps: Frames a second.
        scale: Every pixel becomes scale x scale pixels, so that small films can be watched.

    Raises:
        ValueError: for another ending, no frames, or a rate or scale that is not positive.
    """
    path = Path(path)
    if len(frames) == 0 or not fps > 0 or scale < 1:
        raise ValueError(f"frames: expected some, with fps > 0 and scale >= 1, got {len(frames)}, {fps} and {scale}")
    pixels = np.asarray(frames).repeat(scale, axis=1).repeat(scale, axis=2)
    match path.suffix.lower():
        case ".mp4":
            with whole_file(path) as partial:
                _write_mp4(partial, pixels, float(fps))
        case ".gif":
            with whole_file(path) as partial:
                _write_gif(partial, pixels, float(fps))
        case suffix:
            raise ValueError(f"path: expected a name that ends in .mp4 or .gif, got {suffix!r}; rename the film")


def read_video(path: str | Path) -> UInt8[Tensor, "f h w 3"]:
    """All frames of a film that ffmpeg can read, or of a GIF (which stores equal neighbours once).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a film.
    """
    path = _existing(path)
    if path.suffix.lower() == ".gif":
        return _read_gif(path)
    try:
        reader = imageio_ffmpeg.read_frames(str(path))
        width, height = next(reader)["size"]
        frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (OSError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{path}: expected a film, got something unreadable; convert it to mp4") from error
    if not frames:
        raise ValueError(f"{path}: expected a film, got one without frames; record it again")
    return torch.from_numpy(np.stack(frames))


def read_image(
    path: str | Path, height: int | None = None, width: int | None = None, *, upright: bool = True
) -> UInt8[Tensor, "h w 3"]:
    """A picture, cropped about its centre to the aspect asked for, and resized; its own size by default.

    16-bit and transparent pictures mean the same as for an episode's first frame (`model.picture_file`).

    Args:
        path: The file.
        height: Pixels.
        width: Likewise.
        upright: Turn it as EXIF says; never for a picture that has a camera.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a picture, or one of 32 bits a channel or of more than 2**26 pixels.
    """
    try:
        image = read_picture(_existing(path), upright=upright)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    size = (width or image.width, height or image.height)
    if size != image.size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image))


def write_image(path: str | Path, frame: Frame, scale: int = 1) -> None:
    """Writes a picture in the format that the ending of `path` names; `scale` as in `write_video`.

    Raises:
        ValueError: for an ending that names no format.
    """
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"path: expected the ending of a picture such as .png, got {path.suffix!r}; rename it")
    with whole_file(path) as partial:
        Image.fromarray(np.asarray(frame).repeat(scale, axis=0).repeat(scale, axis=1)).save(partial)


def contact_sheet(
    clips: Sequence[AnyClip], columns: int = 6, gap: int = 2, scale: int = 1, background: int = 24
) -> UInt8[Tensor, "sheet_h sheet_w 3"]:
    """A grid with one row per clip: `columns` of its frames, evenly spaced from the first to the last.

    Args:
        clips: Clips of one frame size; they may differ in length.
        columns: Frames shown of each clip; a clip of fewer frames leaves the rest of its row empty.
        gap: Pixels between frames and round the sheet.
        scale: As in `write_video`.
        background: Grey value of gaps and empty places.

    Raises:
        ValueError: without clips, or when their frame sizes differ.
    """
    sizes = {tuple(clip.shape[1:3]) for clip in clips}
    if len(sizes) != 1 or columns < 1:
        raise ValueError(f"clips: expected clips of one frame size and columns >= 1, got {sorted(sizes)}, {columns}")
    height, width = (side * scale for side in sizes.pop())
    sheet = np.full((gap + len(clips) * (height + gap), gap + columns * (width + gap), 3), background, dtype=np.uint8)
    for row, clip in enumerate(clips):
        shown = np.linspace(0, len(clip) - 1, min(columns, len(clip))).round().astype(int)
        for column, frame in enumerate(np.asarray(clip)[shown]):
            top, left = gap + row * (height + gap), gap + column * (width + gap)
            sheet[top : top + height, left : left + width] = frame.repeat(scale, axis=0).repeat(scale, axis=1)
    return torch.from_numpy(sheet)


def _write_mp4(path: Path, pixels: NDArray[np.uint8], fps: float) -> None:
    _, height, width, _ = pixels.shape
    pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    write_mp4(path, pixels, fps, crf=16)


def _write_gif(path: Path, pixels: NDArray[np.uint8], fps: float) -> None:
    images = [Image.fromarray(frame) for frame in pixels]
    # GIF counts in 1/100 s: round the ends of the frames, not their lengths, so that the film keeps its pace.
    ends = (np.arange(len(images) + 1) * 100 / fps).round().astype(int)
    durations = [max(10, 10 * int(step)) for step in np.diff(ends)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1)


def _read_gif(path: Path) -> Tensor:
    try:
        with open_picture(path) as file:
            count = int(getattr(file, "n_frames", 1))
            if file.width * file.height * count > _MOST_GIF_PIXELS:
                raise ValueError(f"{count} frames of {file.width} x {file.height} pixels: convert it to mp4")
            frames = []
            for index in range(count):
                file.seek(index)
                frames.append(np.array(file.convert("RGB")))
    except ValueError as error:
        raise ValueError(f"{path}: expected a GIF, {error}") from error
    return torch.from_numpy(np.stack(frames))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, got none there; check the path")
    return path
