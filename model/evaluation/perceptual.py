"""LPIPS (Zhang et al. 2018, AlexNet): how different two pictures look to a network, by torchmetrics.

Needs the optional extra `lpips` and AlexNet's weights, which torchvision downloads once. Without internet, put
`alexnet-owt-7be5be79.pth` into the folder `checkpoints` of `torch.hub.get_dir()`.
"""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from model.optional_dependency import require


def require_lpips() -> None:
    """Raises ValueError unless torchmetrics and torchvision are installed."""
    for package in ("torchmetrics", "torchvision"):
        require(package, "lpips")


class PerceptualDistance:
    """LPIPS of clips; 0 is the same picture.

    Raises:
        ValueError: a package or AlexNet's weights are missing.
    """

    def __init__(self) -> None:
        require_lpips()
        lpips: Any = require("torchmetrics.image.lpip", "lpips")
        try:
            self._metric = lpips.LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
        except OSError as error:
            raise ValueError(
                f"lpips: expected AlexNet's weights or a network to fetch them by, got {error}; put "
                f"alexnet-owt-7be5be79.pth into {torch.hub.get_dir()}/checkpoints, or leave lpips at false"
            ) from error

    def __call__(self, frames: UInt8[Tensor, "n f h w 3"], truth: UInt8[Tensor, "n f h w 3"]) -> float:
        """Mean over all frames."""
        self._metric.reset()
        for ours, true in zip(frames, truth, strict=True):
            self._metric.update(*(video.movedim(-1, 1).float() / 255 for video in (ours, true)))
        return float(self._metric.compute())
