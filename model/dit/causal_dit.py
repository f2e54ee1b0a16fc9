"""Wan's transformer made causal: a chunk of latent frames attends to itself and to the stored keys and values of
earlier chunks; cameras enter by a second self-attention, projective in all channels, beside the rotary one.

Source: the network of minWM's Wan 2.1 students (Zhao et al. 2026, arXiv 2605.30263), as in their code.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex64, Float
from torch import Tensor, nn

from model.dit.attention import KeyValue
from model.dit.blocks import Block, Head, add_gated, modulate
from model.dit.embeddings import Patchify, TextProjection, TimestepEmbedding, unpatchify
from model.dit.projective import ProjectiveEncoding, projective_encoding
from model.dit.rope import rotary_table
from model.dit.video_dit import VideoDiTConfig


class CausalDiT(nn.Module):
    """Predicts the velocity `noise - x0` of a chunk of latents from text, a camera path and the chunks before.

    Each block's self-attention is out(attend(rotary)) + projective_out(attend(projective)), both of the same queries,
    keys and values.

    Args:
        config: Wan's sizes; without a camera layer or a mask channel.
    """

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__()
        assert not (config.camera or config.mask_channel) and config.patch_size[0] == 1
        self.config = config
        _, ph, pw = config.patch_size
        self.patch_size = (1, ph, pw)
        width = config.width
        self.patch_embedding = Patchify(config.in_channels, width, self.patch_size)
        self.text_projection = TextProjection(config.text_dim, width)
        self.time_embedding = TimestepEmbedding(config.freq_dim, width)
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.ffn_dim, config.eps, config.cross_attn_norm)
            for _ in range(config.num_blocks)
        )
        self.projective_out = nn.ModuleList(nn.Linear(width, width) for _ in range(config.num_blocks))
        self.head = Head(width, config.out_channels * math.prod(config.patch_size), config.eps)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of keys and values."""
        return self.patch_embedding.weight.dtype

    def encode_text(self, text: Float[Tensor, "b n c"]) -> list[KeyValue]:
        """Each block's keys and values of the text, for all calls of a clip."""
        tokens = self.text_projection(text.to(self.dtype))
        return [block.text_attention.project(tokens) for block in self.blocks]  # type: ignore[union-attr, operator]

    def forward(
        self,
        latents: Float[Tensor, "b c f h w"],
        t: Float[Tensor, "b"],
        text_keys: Sequence[KeyValue],
        projection: Float[Tensor, "b all 4 4"],
        past: Sequence[KeyValue] = (),
    ) -> tuple[Float[Tensor, "b c_out f h w"], list[KeyValue]]:
        """Velocity of the chunk, and its keys and values for later chunks, `b (f s) k c`, of each block.

        Args:
            latents: The noised chunk, or the clean one to get keys and values for later chunks.
            t: Diffusion time in [0, 1].
            text_keys: Result of `encode_text`.
            projection: World to image of the stored frames and the chunk's, in the network's own unit.
            past: Keys and values of the stored frames, one pair for each block; none for the first chunk.
        """
        _, ph, pw = self.patch_size
        height, head_dim = latents.shape[-2], self.config.head_dim
        grid = (projection.shape[1], height // ph, latents.shape[-1] // pw)
        x = self.patch_embedding(latents.to(self.dtype))
        time_embedding, time_modulation = self.time_embedding(t.unsqueeze(1))
        # attention depends only on differences of positions, so the oldest stored frame may have position 0
        rotary = rotary_table(*grid, head_dim, self.config.rope_theta, x.device)
        projective = projective_encoding(projection, head_dim, head_dim)
        stored: list[KeyValue] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            before = past[index] if past else None
            out = self.projective_out[index]
            x, own = _run(block, out, x, before, text_keys[index], time_modulation, rotary, projective)
            stored.append(own)
        return unpatchify(self.head(x, time_embedding), self.patch_size, height), stored


def _run(
    block: Block,
    projective_out: nn.Module,
    x: Float[Tensor, "b f s d"],
    past: KeyValue | None,
    text: KeyValue,
    time_modulation: Float[Tensor, "b #f 6 d"],
    rotary: Complex64[Tensor, "m 1 pairs"],
    projective: ProjectiveEncoding,
) -> tuple[Float[Tensor, "b f s d"], KeyValue]:
    """The chunk's tokens after a block, and its own keys and values: neither rotated nor projected."""
    modulation = (block.modulation.float() + time_modulation).unsqueeze(3)
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(2)
    y = modulate(x, shift_a, scale_a, block.eps).flatten(1, 2)
    attention = block.self_attention
    own = attention.project(y)
    source = own if past is None else (torch.cat([past[0], own[0]], dim=1), torch.cat([past[1], own[1]], dim=1))
    update = attention(y, source, rotary) + projective_out(attention.attend(y, source, projective=projective))
    x = add_gated(x, update.unflatten(1, x.shape[1:3]), gate_a)
    return block.after_self_attention(x, text, shift_f, scale_f, gate_f), own
