"""A user's picture, from a file or an array, as the first frame of an episode."""

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def load_picture(source: object, height: int, width: int) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3]: its centre, cropped to the shape of the frame, then resized.

    Args:
        source: A path, or a uint8 array [h, w, 3].

    Raises:
        ValueError: The file is missing or no picture, or the array has another shape or type.
    """
    if isinstance(source, (str, PathLike)):
        picture = _read(Path(source))
    elif isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
            raise ValueError(
                f"image: expected a uint8 array of shape (height, width, 3), got {source.dtype} {source.shape}; "
                "convert it to 8-bit RGB"
            )
        picture = Image.fromarray(source)
    else:
        raise ValueError(
            f"image: expected a path or a uint8 array of shape (height, width, 3), got {type(source).__name__}; "
            "pass one of these"
        )
    if picture.size == (width, height):
        return np.array(picture)
    # Cropped apart from resizing: PIL's filters would look over the edge of the crop.
    scale = min(picture.width / width, picture.height / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    cropped = picture.crop((left, top, left + across, top + down))
    return np.array(cropped.resize((width, height), Image.Resampling.LANCZOS))


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise ValueError(f"image: expected a picture file, got {path}, which does not exist; check the path") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: PIL on a broken PNG
        raise ValueError(
            f"image: expected a readable picture file, got {path} ({error}); save it again as PNG or JPEG"
        ) from error
