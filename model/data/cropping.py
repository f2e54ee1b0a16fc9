"""Crops and resizes pictures to one aspect and size, and adapts their intrinsics."""

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from model.optional_dependency import require


def crop_box(source_height: int, source_width: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns top, left, height and width, in pixels, of the largest centred part with the aspect of height:width."""
    part_height = min(source_height, max(1, round(source_width * height / width)))
    part_width = min(source_width, max(1, round(source_height * width / height)))
    return (source_height - part_height) // 2, (source_width - part_width) // 2, part_height, part_width


def crop_and_resize(
    picture: UInt8[np.ndarray, "source_h source_w 3"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Returns the picture at another size; what does not fit the aspect is cut off evenly on both sides."""
    cv2 = require("cv2")
    top, left, part_height, part_width = crop_box(picture.shape[0], picture.shape[1], height, width)
    part = picture[top : top + part_height, left : left + part_width]
    if part.shape[:2] == (height, width):
        return np.ascontiguousarray(part)
    shrinks = height <= part_height and width <= part_width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)


def cropped_intrinsics(
    intrinsics: Float[Tensor, "*f 4"], source_height: int, source_width: int, height: int, width: int
) -> Float[Tensor, "*f 4"]:
    """Returns the normalised intrinsics after `crop_and_resize` of upright pictures of the source's size."""
    top, left, part_height, part_width = crop_box(source_height, source_width, height, width)
    size = intrinsics.new_tensor([source_width, source_height] * 2)
    corner = intrinsics.new_tensor([0, 0, left, top])
    return (intrinsics * size - corner) / intrinsics.new_tensor([part_width, part_height] * 2)
