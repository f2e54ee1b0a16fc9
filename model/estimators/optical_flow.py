"""Dense optical flow behind a protocol: OpenCV's dense inverse search, which has no weights, and RAFT."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from model.optional_dependency import require
from model.tensor_file import load_tensors

_RAFT_SIDE = 128  # pixels


@runtime_checkable
class OpticalFlow(Protocol):
    """Estimates where each pixel of one frame is in another."""

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
        """Returns the flow; frames need at least 16 pixels a side (DIS's patches are 8 wide)."""
        if min(first.shape[:2]) < 16:
            raise ValueError(
                f"first: expected at least 16 x 16 pixels, got {list(first.shape[:2])}; enlarge the frames"
            )
        cv2 = require("cv2")
        preset = {"ultrafast": 0, "fast": 1, "medium": 2}[self.preset]
        grey = [cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        flow = cv2.DISOpticalFlow.create(preset).calc(grey[0], grey[1], None)
        return torch.from_numpy(np.ascontiguousarray(flow, dtype=np.float32))


class RAFTFlow:
    """RAFT as torchvision builds it, with weights from a local file: slower than `DISFlow`, and better.

    The tests run this adapter on a small module in RAFT's place, not on torchvision's network.

    Raises:
        ValueError: torchvision is not installed, or the file does not hold the weights of its `raft_large`.

    Source: Z. Teed, J. Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, 2020; the paper, Sec. 3.2.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        num_updates: int = 12,
        device: torch.device | str = "cpu",
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Loads the network.

        Args:
            weights: A state dictionary, `.safetensors`, or `.pth` (read without unpickling objects).
            num_updates: Iterations of refinement.
            device: Where it runs.
            build: Makes the network; torchvision's `raft_large` by default.
        """
        self._num_updates = num_updates
        self._device = torch.device(device)
        self._network = (build or _torchvision_raft)()
        try:
            self._network.load_state_dict(_state_dict(Path(weights)))
        except (RuntimeError, ValueError, UnpicklingError) as error:
            raise ValueError(
                f"{weights}: expected the weights of torchvision's raft_large, got: {error}; name its file"
            ) from error
        self._network.to(self._device).eval().requires_grad_(False)

    def __call__(self, first: UInt8[Tensor, "h w 3"], second: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w 2"]:
        """Returns the flow, on the CPU."""
        height, width = first.shape[:2]
        pair = torch.stack((first, second)).to(self._device).movedim(-1, 1).float() / 127.5 - 1
        # sides must be multiples of 8, and at least 128 for the coarsest correlation
        rows, columns = (max(_RAFT_SIDE, -(-side // 8) * 8) - side for side in (height, width))
        pair = nn.functional.pad(pair, (0, columns, 0, rows), mode="replicate")
        with torch.inference_mode():
            flow = self._network(pair[:1], pair[1:], num_flow_updates=self._num_updates)[-1]
        return flow[0, :, :height, :width].movedim(0, -1).float().cpu().contiguous()


def _torchvision_raft() -> nn.Module:
    try:
        models = require("torchvision.models.optical_flow", extra="raft")
    except RuntimeError as error:  # a torchvision built for another torch lacks its operators
        raise ValueError(f"torchvision: expected one that fits torch {torch.__version__}, got: {error}") from error
    network: nn.Module = models.raft_large(weights=None)
    return network


def _state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected RAFT's weights, found no file; check the path")
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    return dict(torch.load(path, map_location="cpu", weights_only=True))
