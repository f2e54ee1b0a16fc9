"""Depth in metres from single frames, behind a protocol; transformers' networks, and depth that is already known."""

import json
import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import interpolate

from model.fingerprint import fingerprint
from model.optional_dependency import require

_INVERSE_DEPTH = (1e-4, 1e4)  # 1/m: what Depth Pro clamps to


@runtime_checkable
class MetricDepth(Protocol):
    """Estimates metric depth."""

    def __call__(self, frames: UInt8[Tensor, "*f h w 3"]) -> Float[Tensor, "*f h w"]:
        """Returns z-depth in metres of every pixel of one frame or of several, each judged by itself.

        Unknown depth is infinite, zero or NaN; callers leave such pixels out.
        """
        ...


@runtime_checkable
class JudgesLens(Protocol):
    """An estimator of depth that also estimates the lens from a picture, as Depth Pro does."""

    def horizontal_fov_deg(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " f"] | None:
        """Returns the angle of view of each frame, each judged by itself; None if the network estimates none."""
        ...


class GivenDepth:
    """Depth that came with the data (a sensor, a renderer), looked up by its picture; the angle of view likewise."""

    def __init__(
        self,
        frames: UInt8[Tensor, "f h w 3"],
        depth: Float[Tensor, "f h w"],
        horizontal_fov_deg: Float[Tensor, " f"] | None = None,
    ) -> None:
        """Keeps a depth map, and an angle of view if given, for each frame."""
        self._index = {_digest(frame): index for index, frame in enumerate(frames)}
        self._depth, self._fov = depth, horizontal_fov_deg

    def __call__(self, frames: UInt8[Tensor, "*f h w 3"]) -> Float[Tensor, "*f h w"]:
        """Returns the frames' depth.

        Raises:
            ValueError: a frame is not bit for bit one of those that depth was given for.
        """
        return self._depth[self._places(frames)].reshape(frames.shape[:-1])

    def horizontal_fov_deg(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " f"] | None:
        """Returns what was given; see `JudgesLens`."""
        return None if self._fov is None else self._fov[self._places(frames)]

    def _places(self, frames: Tensor) -> list[int]:
        places = [self._index.get(_digest(frame)) for frame in frames.reshape(-1, *frames.shape[-3:])]
        known = [place for place in places if place is not None]
        if len(known) < len(places):
            raise ValueError("frames: expected pictures that depth was given for, got another one; give its depth")
        return known


class TransformersDepth:
    """Depth Pro (the paper's choice) or metric Depth Anything, from a local folder in transformers' format.

    The folder holds `config.json`, `preprocessor_config.json` and safetensors. The pictures are prepared here, as the
    folder's processor would do, because Depth Pro's processor needs torchvision.

    Raises:
        ValueError: transformers is not installed; the folder has no such model, or one of relative depth.

    Source: A. Bochkovskii et al., Depth Pro, 2024, Eq. 1 and Sec. 3.3; L. Yang et al., Depth Anything V2, 2024.
    """

    def __init__(self, folder: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Loads the network onto the device."""
        transformers = require("transformers", extra="depth")
        self._folder = Path(folder)
        self._device = torch.device(device)
        self._processor = self._read_processor()
        try:
            self._model = transformers.AutoModelForDepthEstimation.from_pretrained(
                str(self._folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{folder}: expected a depth model in transformers' format, got: {error}; save one there"
            ) from error
        self._model.to(self._device).eval().requires_grad_(False)
        self._check_metric()

    def __call__(self, frames: UInt8[Tensor, "*f h w 3"]) -> Float[Tensor, "*f h w"]:
        """Returns metres, on the CPU; the device holds one frame at a time."""
        maps = [self._depth(frame) for frame in frames.reshape(-1, *frames.shape[-3:])]
        return torch.stack(maps).reshape(frames.shape[:-1])

    def horizontal_fov_deg(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " f"] | None:
        """Returns Depth Pro's estimate; None for Depth Anything. See `JudgesLens`."""
        if not self._is_depth_pro:
            return None
        with torch.inference_mode():
            pictures = (self._prepared(frame).to(self._device) for frame in frames)
            return torch.tensor([float(self._model(pixel_values=picture).field_of_view) for picture in pictures])

    def _depth(self, frame: Tensor) -> Tensor:
        with torch.inference_mode():
            output = self._model(pixel_values=self._prepared(frame).to(self._device))
            depth = output.predicted_depth.float()[:, None]
            if not self._is_depth_pro:
                return interpolate(depth, frame.shape[:2], mode="bicubic", align_corners=False)[0, 0].cpu()
            # the network gives 1 / depth for a camera whose focal length is the picture's width
            inverse = depth * (2 * math.tan(math.radians(float(output.field_of_view)) / 2))
            inverse = interpolate(inverse, frame.shape[:2], mode="bilinear", align_corners=False)[0, 0]
            return inverse.clamp(*_INVERSE_DEPTH).reciprocal().cpu()

    def _prepared(self, frame: Tensor) -> Float[Tensor, "1 3 h w"]:
        picture = frame.movedim(-1, 0)[None].float()
        size = self._input_size(*frame.shape[:2])
        if not self._is_depth_pro:  # resized as bytes, with a filter
            picture = interpolate(picture, size, mode="bicubic", align_corners=False, antialias=True)
            picture = picture.round().clamp(0, 255)
        mean, deviation = (torch.tensor(self._processor[key])[:, None, None] for key in ("image_mean", "image_std"))
        picture = (picture / 255 - mean) / deviation
        return interpolate(picture, size, mode="bilinear", align_corners=False) if self._is_depth_pro else picture

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        wanted = self._processor["size"]
        rows, columns = wanted["height"] / height, wanted["width"] / width
        if self._processor.get("keep_aspect_ratio", False):
            # the side that must change least decides
            rows = columns = columns if abs(1 - columns) < abs(1 - rows) else rows
        multiple = self._processor.get("ensure_multiple_of", 1)
        return round(rows * height / multiple) * multiple, round(columns * width / multiple) * multiple

    @property
    def _is_depth_pro(self) -> bool:
        return self._model.config.model_type == "depth_pro"

    def _read_processor(self) -> dict[str, Any]:
        path = self._folder / "preprocessor_config.json"
        try:
            processor = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path}: expected the processor's settings, got: {error}; copy the whole folder"
            ) from error
        missing = {"image_mean", "image_std", "size"} - set(processor)
        if missing:
            raise ValueError(f"{path}: expected also {sorted(missing)}; copy the whole folder")
        return dict(processor)

    def _check_metric(self) -> None:
        config = self._model.config
        if self._is_depth_pro and not config.use_fov_model:
            raise ValueError(
                f"{self._folder}: expected a Depth Pro with use_fov_model, got one that knows no angle of view; "
                "take one with it"
            )
        if not self._is_depth_pro and getattr(config, "depth_estimation_type", "relative") != "metric":
            raise ValueError(
                f"{self._folder}: expected a model of metric depth, got a relative {config.model_type}; "
                "take a metric one, such as Depth-Anything-V2-Metric-Indoor"
            )


def _digest(frame: Tensor) -> str:
    return fingerprint(frame, repr(tuple(frame.shape)))
