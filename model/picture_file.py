"""A picture as 8-bit RGB; 16 bits, transparency and EXIF are treated alike for training and for a first frame."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

MOST_PIXELS = 2**26  # 8,192 x 8,192; a compressed picture of a few kilobytes may fill the memory
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "TGA", "JPEG2000", "AVIF", "ICO")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What PIL's readers raise on truncated or malicious files.
READING_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, ArithmeticError,
    NotImplementedError, RecursionError, MemoryError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


def read_picture(path: str | Path, *, upright: bool = True) -> Image.Image:
    """Returns a picture file in mode RGB.

    16-bit grey is scaled to 8 bits, and transparent pictures are laid over white. Broken metadata are ignored.

    Args:
        path: A regular file: a pipe or a device, whose reading may never end, is not opened.
        upright: Rotate it as EXIF says. False if the camera is known: its lens and pose refer to the stored pixels.

    Raises:
        ValueError: there is no such file, or it is no picture, has 32 bits a channel or more than 2**26 pixels.
    """
    with open_picture(path) as picture:
        return to_rgb(picture, str(path), upright=upright)


@contextmanager
def open_picture(path: str | Path) -> Iterator[Image.Image]:
    """Opens a picture file, whose pixels are not decoded yet; any reading error becomes a ValueError.

    Raises:
        ValueError: there is no such file, or it is no picture or has more than 2**26 pixels.
    """
    path = Path(path)
    try:
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise ValueError(f"expected a picture file, got {str(path)[:80]!r} ({error}); check the path") from error
    if not is_file:
        got = "which is no regular file" if path.exists() else "which does not exist"
        raise ValueError(f"expected a picture file, got {path}, {got}; check the path")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken metadata and size: our limit is lower than PIL's, and raises
            # no PostScript and the like: a picture is data, not a program
            with Image.open(path, formats=[each for each in _FORMATS if each in Image.OPEN]) as picture:
                _check_size(picture, str(path))
                yield picture
    except _PictureRefused:
        raise
    except READING_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"expected a readable picture file, got {path} ({reason}); save it again as PNG or JPEG"
        ) from error


def to_rgb(picture: Image.Image, name: str, *, upright: bool = True) -> Image.Image:
    """Returns a picture in mode RGB, as `read_picture` does; `name` is for the errors.

    Raises:
        ValueError: it has 32 bits a channel or more than 2**26 pixels.
    """
    _check_size(picture, name)
    # PIL opens 16-bit PGM in its mode of 32 bits, before Pillow 11 also 16-bit PNG
    is_deep = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.mode in ("I", "F") and not is_deep:  # the range of their values is unknown
        raise _PictureRefused(
            f"expected 8 or 16 bits for each channel, got {name} of 32 (PIL's mode {picture.mode}); "
            "save it as 8-bit PNG or JPEG"
        )
    turn = _UPRIGHT.get(_orientation(picture)) if upright else None
    if is_deep:
        rgb = Image.fromarray(np.round(np.asarray(picture) / 257).astype(np.uint8)).convert("RGB")
    elif picture.has_transparency_data:
        clear = picture.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    else:
        rgb = picture.convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


class _PictureRefused(ValueError):
    """A picture that PIL can read, but that we refuse."""


def _check_size(picture: Image.Image, name: str) -> None:
    if picture.width * picture.height > MOST_PIXELS:
        raise _PictureRefused(
            f"expected a readable picture file, got {name} ({picture.width} x {picture.height} pixels, more than "
            f"{MOST_PIXELS}); make it smaller"
        )


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except READING_ERRORS:
        return 1
    return value if isinstance(value, int) else 1
