"""Wan-Fun-Control-Camera's transformer: Wan's, with input channels for a first picture and camera tokens added.

It has the blocks of `VideoDiT` but is a class of its own, because it is not trained here and ours lack its branches.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.device import on_device
from model.dit.attention import Attention, KeyValue, attend_values
from model.dit.blocks import Block, Head
from model.dit.embeddings import Patchify, TextProjection, TimestepEmbedding, unpatchify
from model.dit.projective import ProjectiveEncoding
from model.dit.rms_norm import RMSNorm
from model.dit.rope import rotary_table

_PATCH_SIZE = (1, 2, 2)
_MAP_STRIDE = 8  # pixels of a map along a side of a latent pixel
_MAP_CHANNELS = 6
FRAMES_PER_LATENT = 4


@dataclass(frozen=True, kw_only=True)
class WanFunConfig:
    """Shape of the network; the defaults are those of V1.1 with 1.3 billion parameters.

    Attributes:
        in_channels: Channels of the noised latents, followed by those of the known part of the clip: the latents of its
            first picture (V1.1), or a mask and the latents of a clip that shows only the known part (Wan 2.2).
        image_dim: Width of CLIP's tokens of the picture; 0: there is no attention to them (Wan 2.2).
    """

    in_channels: int = 32
    out_channels: int = 16
    width: int = 1536
    num_heads: int = 12
    num_blocks: int = 30
    ffn_dim: int = 8960
    text_dim: int = 4096
    freq_dim: int = 256
    image_dim: int = 1280
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Raises ValueError for heads that cannot be rotated: their width is odd or no whole number."""
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise ValueError(
                f"num_heads: expected a divisor of the width {self.width} into even heads, got {self.num_heads}"
            )


class WanFunDiT(nn.Module):
    """Predicts the velocity of a clip's latents from a text, its first picture and its camera.

    Its blocks may be on another device than the rest: each is copied while it runs. Wan 2.2 A14B has two of this
    network, one for each range of noise.

    Source: aigc-apps/VideoX-Fun and modelscope/DiffSynth-Studio, in whose files the tensors have other names
    (`model.pretrained.wan_fun`).
    """

    def __init__(self, config: WanFunConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = Patchify(config.in_channels, width, _PATCH_SIZE)
        self.control_adapter = ControlAdapter(width)
        self.text_projection = TextProjection(config.text_dim, width)
        self.image_projection = ImageProjection(config.image_dim, width) if config.image_dim else None
        self.time_embedding = TimestepEmbedding(config.freq_dim, width)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.num_blocks))
        self.head = Head(width, config.out_channels * math.prod(_PATCH_SIZE), config.eps)

    def project_text(self, text: Float[Tensor, "b n c_text"]) -> Float[Tensor, "b n d"]:
        """An encoded prompt, projected for the blocks."""
        projected: Tensor = self.text_projection(text.to(self.dtype))
        return projected

    def project_image(self, features: Float[Tensor, "b m c_image"]) -> Float[Tensor, "b m d"] | None:
        """A picture's features, projected for the blocks; None if the blocks read none."""
        return None if self.image_projection is None else self.image_projection(features.to(self.dtype))

    @contextmanager
    def on_device_without_blocks(self, device: torch.device) -> Iterator[None]:
        """Inside the `with` block, all parts but the blocks have copies on the device; each block while it runs."""
        with ExitStack() as stack:
            for name, part in self.named_children():
                if name != "blocks":
                    stack.enter_context(on_device(part, device))
            yield

    @property
    def dtype(self) -> torch.dtype:
        """Type of its weights."""
        weight: Tensor = self.head.linear.weight
        return weight.dtype

    def forward(
        self,
        latents: Float[Tensor, "b c f h w"],
        t: Float[Tensor, " b"],
        text: Float[Tensor, "b n d"],
        image: Float[Tensor, "b m d"] | None,
        camera: Float[Tensor, "b f hw d"],
    ) -> Float[Tensor, "b c_out f h w"]:
        """Velocity of every latent frame.

        Args:
            latents: Noised latents, followed by the known channels.
            t: Diffusion time in [0, 1].
            text: From `project_text`.
            image: From `project_image`.
            camera: From `control_adapter`.
        """
        frames, height, width = latents.shape[2:]
        x = self.patch_embedding(latents.to(self.dtype)) + camera
        embedding, modulation = self.time_embedding(t[:, None])
        grid = (frames, height // _PATCH_SIZE[1], width // _PATCH_SIZE[2])
        rotary = rotary_table(*grid, self.config.width // self.config.num_heads, device=x.device)
        source = text if image is None else (text, image)
        for block in self.blocks:
            with on_device(block, x.device):
                x = block(x, source, modulation, rotary)
        return unpatchify(self.head(x, embedding), _PATCH_SIZE, height)


class ControlAdapter(nn.Module):
    """Turns Plucker maps of all frames, at the size of the picture, into one token for each visual token.

    The maps of the four frames of a latent frame become its channels: for each of the six numbers, the four frames. The
    first latent frame repeats its only frame four times.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = _MAP_CHANNELS * FRAMES_PER_LATENT * _MAP_STRIDE**2
        self.conv = nn.Conv2d(channels, width, _PATCH_SIZE[1:], stride=_PATCH_SIZE[1:])
        self.residual_blocks = nn.ModuleList([_ResidualBlock(width)])

    def forward(self, maps: Float[Tensor, "b f 6 h w"]) -> Float[Tensor, "b f_latent hw d"]:
        """Tokens of the maps of 1 + 4k frames, one latent frame at a time: the maps are larger than the film."""
        first = maps[:, :1].expand(-1, FRAMES_PER_LATENT, -1, -1, -1)
        groups = [first, *(maps[:, k : k + FRAMES_PER_LATENT] for k in range(1, maps.shape[1], FRAMES_PER_LATENT))]
        return torch.stack([self._tokens(group) for group in groups], dim=1)

    def _tokens(self, group: Float[Tensor, "b 4 6 h w"]) -> Float[Tensor, "b hw d"]:
        x = F.pixel_unshuffle(group.transpose(1, 2).flatten(1, 2), _MAP_STRIDE)
        x = self.conv(x.to(self.conv.weight.dtype))
        for block in self.residual_blocks:
            x = block(x)
        return x.flatten(2).transpose(1, 2)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class ImageProjection(nn.Module):
    """CLIP's tokens of the picture, mapped to the transformer's width between two LayerNorms."""

    def __init__(self, image_dim: int, width: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(image_dim)
        self.linear_1 = nn.Linear(image_dim, image_dim)
        self.linear_2 = nn.Linear(image_dim, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "b m c"]) -> Float[Tensor, "b m d"]:
        """Projected tokens."""
        out: Tensor = self.norm_out(self.linear_2(F.gelu(self.linear_1(self.norm_in(features)))))
        return out


class TextImageAttention(Attention):
    """The sum of attention to the text and to the picture, which has its own keys and values but the same queries."""

    def __init__(self, width: int, num_heads: int, eps: float) -> None:
        super().__init__(width, num_heads, eps)
        self.image_key = nn.Linear(width, width)
        self.image_value = nn.Linear(width, width)
        self.image_key_norm = RMSNorm(width, eps)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        source: Tensor | KeyValue | tuple[Tensor, Tensor],
        rotary: Tensor | None = None,
        projective: ProjectiveEncoding | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Tokens `x` attend to `source`, the tokens of text and picture."""
        assert isinstance(source, tuple) and rotary is None and projective is None, "TextImageAttention: two sources"
        text, image = source
        query = self._heads(self.query_norm(self.query(x))).transpose(1, 2)
        key, value = self.project(text)
        image_key = self._heads(self.image_key_norm(self.image_key(image)))
        image_value = self._heads(self.image_value(image))
        mixed = attend_values(query, key.transpose(1, 2), value.transpose(1, 2))
        mixed = mixed + attend_values(query, image_key.transpose(1, 2), image_value.transpose(1, 2))
        return self.out(mixed.transpose(1, 2).flatten(2))


def _block(config: WanFunConfig) -> Block:
    block = Block(config.width, config.num_heads, config.ffn_dim, config.eps, cross_attn_norm=True)
    if config.image_dim:
        block.text_attention = TextImageAttention(config.width, config.num_heads, config.eps)
    return block
