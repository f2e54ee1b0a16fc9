"""Checks of a data set's cameras and pictures: one lens, one size, one folder; and the natural order of names."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import torch
from jaxtyping import Float
from torch import Tensor

from model.picture_file import open_picture

_FOCAL = (0.05, 50.0)  # shares of the picture's side: angles of view of 169 degrees to 1
_CENTRE = (-1.0, 2.0)
_MOST_CHANGE = 0.01  # of the lens within a clip: per-picture calibration differs by less, a zoom by more

Size = tuple[int, int]  # height, width


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Returns a key that sorts `frame_10` after `frame_9`; names that differ only in leading zeros sort as text."""
    parts = re.split(r"([0-9]+)", name)
    # numbers by length, then by digits: `int` would fail at 5,000 digits
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if odd % 2 else (-1, part) for odd, part in enumerate(parts)
    ], name


def check_lens(name: str, intrinsics: Float[Tensor, "f 4"]) -> None:
    """Checks that all frames share one lens, and that a pinhole camera can have it.

    Raises:
        ValueError: a number is not finite or out of range, or the lens changes by more than 1 %.
    """
    lens = intrinsics.double()
    focal, centre = lens[:, :2], lens[:, 2:]
    inside = (focal >= _FOCAL[0]) & (focal <= _FOCAL[1]) & (centre >= _CENTRE[0]) & (centre <= _CENTRE[1])
    if not inside.all():  # also NaN
        wrong = lens[(~inside).any(dim=1)][0]
        raise ValueError(
            f"{name}: expected fx, fy of {_FOCAL[0]} to {_FOCAL[1]:g} and cx, cy of {_CENTRE[0]:g} to {_CENTRE[1]:g} "
            f"widths and heights of the picture, got {[round(number, 4) for number in wrong.tolist()]}; mend the camera"
        )
    change = torch.cat((focal / focal[0] - 1, centre - centre[0]), dim=1).abs().max()
    if change > _MOST_CHANGE:
        raise ValueError(
            f"{name}: expected one camera for all frames, got lenses that differ by {100 * float(change):.1f} %; "
            "give each lens a scene of its own"
        )


def check_one_camera(
    name: str,
    intrinsics: Float[Tensor, "f 4"],
    files: Sequence[str],
    pictures: Sequence[Size],
    calibrated: Sequence[tuple[float, float]],
) -> None:
    """Checks that one camera took all frames: one lens, one folder, one size, no picture twice.

    Args:
        name: What the errors begin with.
        intrinsics: See `check_lens`.
        files: The frames' pictures.
        pictures: Their heights and widths.
        calibrated: Heights and widths of the calibrated pictures; `pictures` may be enlarged or reduced copies.

    Raises:
        ValueError: a check fails, or the aspects of pictures and camera differ by more than rounding explains.
    """
    check_lens(name, intrinsics)
    folders = sorted({str(PurePath(file).parent) for file in files})
    if len(folders) > 1:
        raise ValueError(
            f"{name}: expected pictures of one camera in one folder, got {len(folders)} folders: "
            f"{', '.join(folders[:3])}; give each a scene of its own"
        )
    if len(set(calibrated)) > 1:
        found = sorted(set(calibrated))[:3]
        raise ValueError(f"{name}: expected one camera, got several sizes: {found}; import each alone")
    if len(set(files)) < len(files):
        raise ValueError(f"{name}: expected each picture once, got {len(files) - len(set(files))} of them again")
    for (height, width), (camera_height, camera_width) in zip(pictures, calibrated, strict=True):
        if abs(width * camera_height - height * camera_width) > camera_height + camera_width:
            raise ValueError(
                f"{name}: expected pictures of the camera's aspect, {camera_width:g} x {camera_height:g}, got "
                f"{width} x {height}; take the pictures that were calibrated, not cropped and not turned"
            )


def picture_sizes(folder: Path, files: Sequence[str]) -> list[Size]:
    """Returns height and width of stored pictures, from their headers; EXIF rotation is ignored.

    Raises:
        ValueError: a file is no picture.
    """
    sizes = []
    for file in files:
        with open_picture(folder / file) as picture:
            sizes.append((picture.height, picture.width))
    return sizes
