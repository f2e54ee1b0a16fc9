"""A user's picture, from a file or an array, as the first frame of an episode."""

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_MOST_PIXELS = 2**26  # 8,192 x 8,192; a compressed picture of a few kilobytes may fill the memory


def load_picture(source: object, height: int, width: int) -> np.ndarray:
    """Returns a picture as uint8 [height, width, 3]: its centre, cropped to the shape of the frame, then resized.

    Args:
        source: A path, or a uint8 array [h, w, 3]. Of a file, 16-bit grey is scaled to 8 bits, and what is transparent
            is laid over white.

    Raises:
        ValueError: The file is missing, no picture, one of 32 bits or of more than 2**26 pixels, or the array has
            another shape or type.
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
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise ValueError(f"image: expected a picture file, got {str(path)[:80]!r} ({error}); check the path") from error
    if not is_file:  # a pipe or a device is not opened: reading it may never end
        got = "which is no regular file" if path.exists() else "which does not exist"
        raise ValueError(f"image: expected a picture file, got {path}, {got}; check the path")
    try:
        with _open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            # PIL opens 16-bit PGM in its mode of 32 bits, before Pillow 11 also 16-bit PNG
            is_deep = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: PIL on a broken PNG
        raise ValueError(
            f"image: expected a readable picture file, got {path} ({error}); save it again as PNG or JPEG"
        ) from error
    if is_deep:
        return Image.fromarray(np.round(np.asarray(upright) / 257).astype(np.uint8)).convert("RGB")
    if upright.mode in ("I", "F"):  # black, white and unit are anyone's guess
        raise ValueError(
            f"image: expected 8 or 16 bits for each channel, got {path} of 32 (PIL's mode {upright.mode}); "
            "save it as 8-bit PNG or JPEG"
        )
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    return upright.convert("RGB")


def _open(path: Path) -> Image.Image:
    """Opens a picture without decoding it, and raises OSError if it has too many pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower, and an error
        picture = Image.open(path)
    if picture.width * picture.height > _MOST_PIXELS:
        picture.close()
        raise OSError(f"{picture.width} x {picture.height} pixels, more than {_MOST_PIXELS}: make it smaller")
    return picture
