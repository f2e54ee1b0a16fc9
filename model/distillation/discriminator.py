"""The discriminator of adversarial distillation: a copy of the diffusion network that gives a whole clip one score."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT


class AttentionPooling(nn.Module):
    """One learned query that attends to all tokens of a block."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(1, 1, width) / width**0.5)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)

    def forward(self, tokens: Float[Tensor, "b f s d"]) -> Float[Tensor, "b d"]:
        """The attention output of the query."""
        read = self.norm(tokens.flatten(1, 2))
        return self.attention(self.query.expand(len(read), -1, -1), read, read, need_weights=False)[0].squeeze(1)


class Discriminator(nn.Module):
    """Judges a clip that follows a first latent: a high score for a true clip.

    Args:
        dit: Copied; its velocity head is not used and not trained.
        depths: After which blocks the tokens are read, counted from 1; None: as `default_depths`.

    Raises:
        ValueError: A depth is not one of the network's, is named twice, or the last block is not among them.

    Source: Lin et al. 2025, "Diffusion Adversarial Post-Training" (arXiv 2501.08316): the network's copy, readers at
    several depths. AAD-1 (2606.03972): the whole window, seen in both directions, has one score.
    """

    def __init__(self, dit: VideoDiT, depths: Sequence[int] | None = None) -> None:
        super().__init__()
        num_blocks = dit.config.num_blocks
        self.depths = default_depths(num_blocks) if depths is None else sorted(depths)
        is_repeated = len(set(self.depths)) < len(self.depths)
        if is_repeated or not self.depths or self.depths[0] < 1 or self.depths[-1] != num_blocks:
            raise ValueError(
                f"depths: expected different blocks, 1 to {num_blocks}, with the last among them, got {self.depths}; "
                "a block after the last depth would do nothing"
            )
        width = dit.config.width
        self.dit = copy.deepcopy(dit).requires_grad_(True)
        self.dit.head.requires_grad_(False)
        self.readers = nn.ModuleList(AttentionPooling(width, dit.config.num_heads) for _ in self.depths)
        self.score = nn.Linear(len(self.depths) * width, 1)

    def forward(
        self,
        first: Float[Tensor, "b c 1 h w"],
        clip: Float[Tensor, "b c new h w"],
        t: Float[Tensor, " b"],
        text: Float[Tensor, "b n d"],
        c2w: Float[Tensor, "b one_plus_new 4 4"],
        intrinsics: Float[Tensor, "b 4"],
    ) -> Float[Tensor, " b"]:
        """The score of a clip noised to time `t` that follows the clean latent `first`; poses are of both."""
        config, (b, _, num_new, h, w) = self.dit.config, clip.shape
        is_context = (torch.arange(1 + num_new, device=clip.device) < 1).expand(b, -1)
        with self.hidden_states() as hidden:
            self.dit(
                torch.cat([first, clip], dim=2),
                t[:, None] * ~is_context,
                text,
                context_mask=is_context if config.mask_channel else None,
                **camera_inputs(config, c2w, intrinsics, h, w, num_context=1),
            )
        read = [reader(tokens) for reader, tokens in zip(self.readers, hidden, strict=True)]
        return self.score(torch.cat(read, dim=1)).squeeze(1).float()

    @contextmanager
    def hidden_states(self) -> Iterator[list[Tensor]]:
        """Yields a list; inside the block every call of the network appends the tokens after each depth, in order."""
        hidden: list[Tensor] = []
        blocks = [self.dit.blocks[depth - 1] for depth in self.depths]
        handles = [block.register_forward_hook(lambda *call: hidden.append(call[2])) for block in blocks]
        try:
            yield hidden
        finally:
            for handle in handles:
                handle.remove()


def default_depths(num_blocks: int) -> list[int]:
    """After about 4/9, 7/10 and all of the blocks, as in APT (16, 26 and 36 of 36)."""
    return sorted({math.ceil(num_blocks * depth / 36) for depth in (16, 26, 36)})
