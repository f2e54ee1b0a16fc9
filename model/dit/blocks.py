"""One transformer block and the output head of Wan 2.1, with the modulation computed once per latent frame."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float
from torch import Tensor, nn

from model.dit.attention import Attention, KeyValue
from model.dit.gradient_checkpointing import checkpointed
from model.dit.projective import ProjectiveEncoding

_SQRT_8_OVER_PI = math.sqrt(8 / math.pi)


def modulate(
    x: Float[Tensor, "b f s d"], shift: Float[Tensor, "b #f 1 d"], scale: Float[Tensor, "b #f 1 d"], eps: float
) -> Float[Tensor, "b f s d"]:
    """LayerNorm without weights, then `* (1 + scale) + shift`, in float32."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=eps), 1 + scale).type_as(x)


def add_gated(
    x: Float[Tensor, "b f s d"], update: Float[Tensor, "b f s d"], gate: Float[Tensor, "b #f 1 d"]
) -> Float[Tensor, "b f s d"]:
    """Residual `x + gate * update`, in float32."""
    return torch.addcmul(x.float(), update.float(), gate).type_as(x)


def kept_frames(modulation: Float[Tensor, "b #f 1 d"], num_frames: int) -> Float[Tensor, "b #kept 1 d"]:
    """The modulation of the last frames, or the one for all of them."""
    return modulation if modulation.shape[1] == 1 else modulation[:, -num_frames:]


def gelu(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """GELU in its tanh form, which is x * sigmoid(sqrt(8 / pi) (x + 0.044715 x^3)).

    Without gradients, on a CPU, the sigmoid written out in place takes half the time of PyTorch's kernel.
    """
    if torch.is_grad_enabled() or x.is_cuda or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    slope = x * x
    slope.mul_(0.044715 * _SQRT_8_OVER_PI).add_(_SQRT_8_OVER_PI)
    return slope.mul_(x).sigmoid_().mul_(x)


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Per token."""
        return self.linear_2(gelu(self.linear_1(x)))


class Block(nn.Module):
    """Self-attention and feed-forward, each modulated and gated by the timestep; between them attention to the text.

    Source: Wan 2.1. The text branch has no rotary embedding, modulation or gate; its LayerNorm has weights.
    """

    def __init__(self, width: int, num_heads: int, ffn_dim: int, eps: float, cross_attn_norm: bool) -> None:
        super().__init__()
        self.eps = eps
        self.self_attention = Attention(width, num_heads, eps)
        self.text_norm = nn.LayerNorm(width, eps=eps) if cross_attn_norm else None
        self.text_attention = Attention(width, num_heads, eps)
        self.feed_forward = FeedForward(width, ffn_dim)
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def forward(
        self,
        x: Float[Tensor, "b f s d"],
        text: Float[Tensor, "b m d"] | KeyValue,
        time_modulation: Float[Tensor, "b #f 6 d"],
        rotary: Complex64[Tensor, "n 1 pairs"],
        projective: ProjectiveEncoding | None = None,
        num_dropped: int = 0,
        gradient_checkpointing: str = "none",
    ) -> Float[Tensor, "b f_kept s d"]:
        """Tokens of `f` latent frames, `s` tokens each; one modulation per frame, or one for all frames.

        The first `num_dropped` frames are attended to but not returned: their velocity is not needed.
        `gradient_checkpointing`: see `gradient_checkpointing.GRADIENT_CHECKPOINTING`.
        """
        arguments = (x, text, time_modulation, rotary, projective, num_dropped)
        return checkpointed(gradient_checkpointing, self._compute, *arguments)

    def _compute(
        self,
        x: Tensor,
        text: Tensor | KeyValue,
        time_modulation: Tensor,
        rotary: Tensor,
        projective: ProjectiveEncoding | None,
        num_dropped: int,
    ) -> Tensor:
        f, s = x.shape[1] - num_dropped, x.shape[2]
        modulation = (self.modulation.float() + time_modulation).unsqueeze(3)
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(2)

        y = modulate(x, shift_a, scale_a, self.eps).flatten(1, 2)
        if num_dropped:
            x = x[:, num_dropped:]
            gate_a, shift_f, scale_f, gate_f = (kept_frames(m, f) for m in (gate_a, shift_f, scale_f, gate_f))
        update = self.self_attention(y[:, num_dropped * s :], y, rotary, projective)
        x = add_gated(x, update.unflatten(1, (f, s)), gate_a)
        return self.after_self_attention(x, text, shift_f, scale_f, gate_f)

    def after_self_attention(
        self,
        x: Float[Tensor, "b f s d"],
        text: Float[Tensor, "b m d"] | KeyValue,
        shift_f: Float[Tensor, "b #f 1 d"],
        scale_f: Float[Tensor, "b #f 1 d"],
        gate_f: Float[Tensor, "b #f 1 d"],
    ) -> Float[Tensor, "b f s d"]:
        """The rest of the block: attention to the text, then the feed-forward layers with their modulation."""
        y = self._normalise_for_text(x).flatten(1, 2)
        x = x + self.text_attention(y, text).unflatten(1, x.shape[1:3])

        y = modulate(x, shift_f, scale_f, self.eps)
        return add_gated(x, self.feed_forward(y), gate_f)

    def _normalise_for_text(self, x: Tensor) -> Tensor:
        norm = self.text_norm
        if norm is None:
            return x
        return F.layer_norm(x.float(), x.shape[-1:], norm.weight.float(), norm.bias.float(), norm.eps).type_as(x)


class Head(nn.Module):
    """Modulated LayerNorm and a linear layer from tokens to patches of velocity."""

    def __init__(self, width: int, patch_channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.linear = nn.Linear(width, patch_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, width) / width**0.5)

    def forward(
        self, x: Float[Tensor, "b f s d"], time_embedding: Float[Tensor, "b #f d"]
    ) -> Float[Tensor, "b f s patch_c"]:
        """Patches, `(pt ph pw c)` innermost."""
        shift, scale = (self.modulation.float() + time_embedding.float().unsqueeze(2)).unsqueeze(3).unbind(2)
        return self.linear(modulate(x, shift, scale, self.eps))
