"""A user's picture, from a file, an array or PIL, as the first frame of an episode."""

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from model.picture_file import READING_ERRORS, read_picture, to_rgb


def load_picture(source: object, height: int, width: int) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3], centre-cropped to the frame's aspect ratio, then resized.

    Args:
        source: A path, a uint8 array [h, w, 3], or a PIL image. In a file or PIL image, 16-bit grey is scaled to 8
            bits, transparency is blended over white, and EXIF orientation is applied.

    Raises:
        ValueError: The file is missing or no picture, has 32 bits or more than 2**26 pixels, or the array has another
            shape or type.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source)
    elif isinstance(source, (str, PathLike, Image.Image)):
        try:
            picture = _from_pil(source) if isinstance(source, Image.Image) else read_picture(Path(source))
        except ValueError as error:
            raise ValueError(f"image: {error}") from error
    else:
        raise ValueError(
            "image: expected a path, a uint8 array of shape (height, width, 3) or a PIL image, got "
            f"{type(source).__name__}; pass one of these"
        )
    if picture.size == (width, height):
        return np.array(picture)
    # Cropped before resizing: PIL's filters would read beyond the edge of the crop.
    scale = min(picture.width / width, picture.height / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    cropped = picture.crop((left, top, left + across, top + down))
    return np.array(cropped.resize((width, height), Image.Resampling.LANCZOS))


def _from_array(source: np.ndarray) -> Image.Image:
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
        raise ValueError(
            f"image: expected a uint8 array of shape (height, width, 3), got {source.dtype} {source.shape}; "
            "convert it to 8-bit RGB"
        )
    return Image.fromarray(source)


def _from_pil(source: Image.Image) -> Image.Image:
    if not source.width or not source.height:
        raise ValueError(f"expected a PIL image with pixels, got {source.width} x {source.height}; give another")
    try:
        return to_rgb(source, "a PIL image")
    except ValueError:
        raise
    except READING_ERRORS as error:  # PIL decodes lazily, and its file may be damaged
        raise ValueError(f"expected a readable PIL image, got {error}; save it again as PNG or JPEG") from error
