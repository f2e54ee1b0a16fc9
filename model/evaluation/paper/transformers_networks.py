"""VideoMAE, CLIP and DINOv2 from local folders in transformers' format; nothing is downloaded.

The pictures are prepared here, as the folder's processor would do, because transformers' processors need torchvision.
"""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import interpolate

from model.fingerprint import fingerprint
from model.optional_dependency import require

_AT_ONCE = 32  # frames on the device at once


class VideoMAEVideos:
    """`VideoNetwork`: the mean over all tokens of VideoMAE's encoder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: transformers is not installed, or the folder holds no VideoMAE.

    Source: S. Ge et al., On the content bias in Frechet Video Distance, 2024: I3D's features hardly see motion.
    """

    metric = "fvd"

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Loads the network onto the device."""
        said = "MCG-NJU/videomae-base from huggingface.co; put its folder anywhere and name it with videomae=FOLDER"
        self._network = _load(folder, "VideoMAEModel", "videomae", "videomae", said).to(device)
        self._pictures, self._device = _Pictures(folder), device
        self.name = f"VideoMAE {_digest(folder)}"

    @torch.inference_mode()
    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " d"]:
        """Returns the features; from a clip of another length, the network's number of frames is taken evenly."""
        chosen = torch.linspace(0, len(frames) - 1, self._network.config.num_frames).round().long()
        pictures = self._pictures(frames[chosen]).to(self._device)
        return self._network(pixel_values=pictures[None]).last_hidden_state[0].mean(dim=0).float().cpu().clone()


class TransformersImages:
    """`ImageNetwork`: CLIP's image embedding, as in the paper, or DINOv2's class token.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: transformers is not installed, or the folder holds neither CLIP nor DINOv2.
    """

    metric = "appearance_consistency"

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Loads the network onto the device."""
        said = (
            "openai/clip-vit-base-patch32 or facebook/dinov2-base from huggingface.co; put its folder anywhere and "
            "name it with image_network=FOLDER"
        )
        kind = _model_type(folder, "image_network", said)
        self._is_clip = kind.startswith("clip")
        # the whole CLIP model, because only its own settings have the width of the embedding
        model = {"clip": "CLIPModel", "clip_vision_model": "CLIPVisionModelWithProjection"}.get(kind, "Dinov2Model")
        self._network = _load(folder, model, "clip" if self._is_clip else "dinov2", "image_network", said).to(device)
        self._pictures, self._device = _Pictures(folder), device
        self.name = f"{'CLIP' if self._is_clip else 'DINOv2'} {_digest(folder)}"

    @torch.inference_mode()
    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f d"]:
        """Returns the features of every frame."""
        parts = []
        for part in frames.split(_AT_ONCE):
            parts.append(self._embedded(self._pictures(part).to(self._device)).float().cpu().clone())
        return torch.cat(parts)

    def _embedded(self, pictures: Tensor) -> Tensor:
        if self._is_clip:
            return self._network.visual_projection(self._network.vision_model(pixel_values=pictures).pooler_output)
        return self._network(pixel_values=pictures).pooler_output


class _Pictures:
    """Prepares frames by the folder's `preprocessor_config.json`: resized, cropped about the centre, normalised."""

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / "preprocessor_config.json"
        try:
            settings: dict[str, Any] = json.loads(path.read_text())
            self._mean, self._deviation = (
                torch.tensor(settings[key])[:, None, None] for key in ("image_mean", "image_std")
            )
            size = settings["size"]
            crop = settings.get("crop_size", size) if settings.get("do_center_crop", True) else None
            self._short_side: int | None = size.get("shortest_edge")
            self._size = None if self._short_side else (size["height"], size["width"])
            self._crop = None if crop is None or "height" not in crop else (crop["height"], crop["width"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: expected the processor's settings, got: {error}; copy the whole folder"
            ) from error
        self._mode = {2: "bilinear", 3: "bicubic"}.get(settings.get("resample", 3), "bicubic")

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 s t"]:
        pictures = frames.movedim(-1, 1).float()
        pictures = interpolate(pictures, self._target(*frames.shape[1:3]), mode=self._mode, antialias=True)
        pictures = pictures.round().clamp(0, 255) / 255  # resized as bytes, as the processors do
        if self._crop is not None:
            top, left = ((side - wanted) // 2 for side, wanted in zip(pictures.shape[-2:], self._crop, strict=True))
            pictures = pictures[..., top : top + self._crop[0], left : left + self._crop[1]]
        return (pictures - self._mean) / self._deviation

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self._size is not None:
            return self._size
        assert self._short_side is not None
        short = min(height, width)
        return int(height * self._short_side / short), int(width * self._short_side / short)


def _load(folder: str | Path, model: str, kind: str, setting: str, where: str) -> Any:
    found = _model_type(folder, setting, where)
    if not found.startswith(kind):
        raise ValueError(f"{setting}: expected a folder of {kind}, got one of {found!r} at {folder}; get {where}")
    transformers = require("transformers", extra="depth")
    try:
        network, loaded = getattr(transformers, model).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{setting}: expected safetensors weights of {kind}, got: {error}; get {where}") from error
    # transformers only warns about missing weights, and continues with random numbers
    if absent := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        raise ValueError(f"{setting}: expected all weights of {kind}, {len(absent)} are missing or differ; get {where}")
    return network.eval().requires_grad_(False)


def _model_type(folder: str | Path, setting: str, where: str) -> str:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{setting}: expected a folder with config.json, found none at {folder}; get {where}")
    try:
        return str(json.loads(path.read_text())["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected transformers' settings, got: {error}; get {where}") from error


def _digest(folder: str | Path) -> str:
    """Returns a short name of the weights: other weights give other figures."""
    return fingerprint(*sorted(Path(folder).glob("*.safetensors")), Path(folder) / "config.json")[:8]
