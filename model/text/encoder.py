"""What every text encoder offers."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class TextEncoder(Protocol):
    """Turns prompts into a fixed number of token embeddings, zeros after the prompt's own tokens."""

    @property
    def dim(self) -> int:
        """Width of a token embedding."""
        ...

    @property
    def num_tokens(self) -> int:
        """Tokens per prompt."""
        ...

    def encode(self, prompts: list[str]) -> Float[Tensor, "b n d"]:
        """The embedded prompts, float32."""
        ...

    def null(self, num_prompts: int) -> Float[Tensor, "b n d"]:
        """The embedding of the empty prompt, `num_prompts` times: the text of an unconditional sample."""
        ...
