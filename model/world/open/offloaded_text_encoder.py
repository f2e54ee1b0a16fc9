"""A text encoder that is on the device only while it encodes: it is larger than the networks that make the film."""

from jaxtyping import Float
from torch import Tensor, device

from model.device import on_device
from model.text.umt5 import UMT5Encoder


class OffloadedTextEncoder:
    """See `TextEncoder`.

    Args:
        encoder: On the device where it stays between calls.
        target: Device where it encodes, and where the embeddings are.
    """

    def __init__(self, encoder: UMT5Encoder, target: device) -> None:
        self._encoder, self._target = encoder, target
        self.dim, self.num_tokens = encoder.dim, encoder.num_tokens
        self._null: Tensor | None = None

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The embedded prompts, float32."""
        with on_device(self._encoder.model, self._target):
            return self._encoder.encode(prompts)

    def null(self, num_prompts: int) -> Float[Tensor, "b n d"]:
        """The embedding of the empty prompt, repeated."""
        if self._null is None:  # asked for at every clip
            self._null = self.encode([""])
        return self._null.expand(num_prompts, -1, -1)
