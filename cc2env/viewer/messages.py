"""Binary messages for the page, with their numbers as JSON: a clip as one picture, a cloud of points."""

import io
import json
import struct
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_MOST_ROWS = 65_500  # of a JPEG


def clip_message(facts: dict[str, Any], frames: UInt8[np.ndarray, "f h w 3"]) -> bytes:
    """Returns the length of the JSON (4 bytes, big-endian), the JSON, and a JPEG of all frames, oldest on top.

    Args:
        facts: JSON data about the clip; the number and size of its frames are added.
        frames: At least one frame; they are scaled down if one picture cannot hold all.
    """
    count, height, width = frames.shape[:3]
    strip = Image.fromarray(frames.reshape(count * height, width, 3))
    if len(frames) * height > _MOST_ROWS:
        share = _MOST_ROWS // count / height
        height, width = int(height * share), int(width * share)
        strip = strip.resize((width, height * count))
    picture = io.BytesIO()
    strip.save(picture, "JPEG", quality=92, subsampling=0)
    return _message({**facts, "type": "clip", "frames": count, "height": height, "width": width}, picture.getvalue())


def points_message(xyz: Float[np.ndarray, "n 3"], rgb: UInt8[np.ndarray, "n 3"]) -> bytes:
    """Returns a cloud of points as one message: JSON, float32 positions, then colours."""
    return _message({"type": "points", "count": len(xyz)}, xyz.astype("<f4").tobytes() + rgb.tobytes())


def plain_poses(c2w: Float[np.ndarray, "n 4 4"]) -> list[list[float]]:
    """Returns poses as rows of 12 numbers, the upper three rows of each matrix, to a tenth of a millimetre."""
    rows: list[list[float]] = np.round(c2w[:, :3].reshape(len(c2w), 12).astype(float), 4).tolist()
    return rows


def _message(facts: dict[str, Any], data: bytes) -> bytes:
    header = json.dumps(facts).encode()
    return struct.pack(">I", len(header)) + header + data
