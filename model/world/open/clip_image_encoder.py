"""CLIP's tokens of a picture, as Wan's image-to-video models read them."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from model.device import on_device

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPImageEncoder:
    """Encodes pictures as the tokens before the last block of CLIP's image encoder.

    Args:
        model: transformers' `CLIPVisionModel` without that block.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def dim(self) -> int:
        """Width of a token."""
        return int(self._model.config.hidden_size)

    def __call__(
        self, pictures: UInt8[Tensor, "b h w 3"] | None, batch: int, device: torch.device
    ) -> Float[Tensor, "b m c"]:
        """The tokens; zeros without a picture, as in the authors' code."""
        config = self._model.config
        if pictures is None:
            return torch.zeros(batch, 1 + (config.image_size // config.patch_size) ** 2, self.dim, device=device)
        frames = pictures.to(device).movedim(-1, 1).float() / 255
        # the whole picture is resized to a square without a filter, as in training
        frames = interpolate(frames, [config.image_size] * 2, mode="bicubic", align_corners=False)
        mean, std = (frames.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        with on_device(self._model, device):
            tokens: Tensor = self._model(((frames - mean) / std).to(self._model.dtype)).last_hidden_state
        return tokens.float()
