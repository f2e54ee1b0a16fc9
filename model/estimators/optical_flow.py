"""Dense optical flow behind a protocol; OpenCV's dense inverse search, which has no weights."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.estimators.optional_dependency import require


@runtime_checkable
class OpticalFlow(Protocol):
    """Where the content of one frame goes in another."""

    def __call__(self, first: UInt8[Tensor, "h w 3"], second: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w 2"]:
        """Returns pixels (right, down) from every pixel of the first frame to its place in the second."""
        ...


@dataclass(frozen=True)
class DISFlow:
    """Dense inverse search of OpenCV.

    Raises:
        ValueError: OpenCV is not installed.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"

    def __call__(self, first: UInt8[Tensor, "h w 3"], second: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w 2"]:
        """Returns the flow; frames of at least 16 pixels a side (its patches are 8 wide)."""
        if min(first.shape[:2]) < 16:
            raise ValueError(
                f"first: expected at least 16 x 16 pixels, got {list(first.shape[:2])}; enlarge the frames"
            )
        cv2 = require("cv2")
        presets = {"ultrafast": 0, "fast": 1, "medium": 2}
        grey = [cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        flow = cv2.DISOpticalFlow.create(presets[self.preset]).calc(grey[0], grey[1], None)
        return torch.from_numpy(np.ascontiguousarray(flow, dtype=np.float32))
