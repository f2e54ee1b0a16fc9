"""Self-attention over all video tokens and cross-attention to text, as in Wan 2.1."""

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float
from torch import Tensor, nn

from model.dit.context_parallel import TokenSplit
from model.dit.projective import ProjectiveEncoding, transform
from model.dit.rms_norm import RMSNorm
from model.dit.rope import rotate

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of a source, `b m k c` each: what `Attention.project` returns."""

FEW_KEYS = 32
"""On a CPU, attention to at most this many keys is computed by two plain products."""


def attend_values(
    query: Float[Tensor, "b k n c"], key: Float[Tensor, "b k m c"], value: Float[Tensor, "b k m c"]
) -> Float[Tensor, "b k n c"]:
    """softmax(query key^T / sqrt(c)) value, by PyTorch's fused kernel or by two plain products, whichever is faster.

    On a CPU the plain products are faster for a few keys (a tiny text: 0.15 against 0.27 ms), and where the user allows
    bfloat16 products (`torch.set_float32_matmul_precision("medium")`: processors with AMX; forward and backward over
    540 tokens 35 against 120 ms, and against 53 ms of the fused kernel in float32).
    """
    if query.is_cuda or torch.compiler.is_compiling():  # the precision, read below, would break a compiled graph
        return F.scaled_dot_product_attention(query, key, value)
    if key.shape[-2] <= FEW_KEYS:
        return _attend_unfused(query, key, value)
    if query.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium":
        return _attend_unfused(query.bfloat16(), key.bfloat16(), value.bfloat16()).float()
    return F.scaled_dot_product_attention(query, key, value)


def _attend_unfused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


class Attention(nn.Module):
    """Multi-head attention; queries and keys pass an RMSNorm over their full width before the split into heads.

    With a rotary table it is Wan's self-attention, without one Wan's cross-attention.
    """

    def __init__(self, width: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.split: TokenSplit | None = None  # the processes that share the tokens of self-attention
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.query_norm = RMSNorm(width, eps)
        self.key_norm = RMSNorm(width, eps)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        source: Float[Tensor, "b m d"] | KeyValue,
        rotary: Complex64[Tensor, "m 1 pairs"] | None = None,
        projective: ProjectiveEncoding | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Tokens `x` attend to `source`: themselves, or the text, which may be given as keys and values.

        In self-attention `x` may be the last tokens of `source` only; `rotary` and `projective` are those of the
        source.
        """
        return self.out(self.attend(x, source, rotary, projective))

    def attend(
        self,
        x: Float[Tensor, "b n d"],
        source: Float[Tensor, "b m d"] | KeyValue,
        rotary: Complex64[Tensor, "m 1 pairs"] | None = None,
        projective: ProjectiveEncoding | None = None,
    ) -> Float[Tensor, "b n d"]:
        """The input of the last linear layer in `forward`."""
        query = self._heads(self.query_norm(self.query(x)))
        key, value = source if isinstance(source, tuple) else self.project(source)
        if rotary is not None:
            query, key = rotate(query, rotary[-x.shape[1] :]), rotate(key, rotary)
        if projective is not None:
            frames = projective.query.shape[1] * x.shape[1] // key.shape[1]
            query = transform(query, projective.query[:, -frames:])
            key, value = transform(key, projective.key_value), transform(value, projective.key_value)
        if self.split is not None:
            query, key, value = (self.split.to_heads(each) for each in (query, key, value))
        mixed = attend_values(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)
        if self.split is not None:
            mixed = self.split.to_tokens(mixed)
        if projective is not None:
            mixed = transform(mixed, projective.output[:, -frames:])
        return mixed.flatten(2)

    def project(self, source: Float[Tensor, "b m d"]) -> KeyValue:
        """Keys and values of a source that several calls attend to."""
        return self._heads(self.key_norm(self.key(source))), self._heads(self.value(source))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))
