"""VideoDiT: Wan 2.1's video transformer plus the camera patchify layer and the context-mask channel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor, device, nn

from model.dit.attention import KeyValue
from model.dit.blocks import Block, Head
from model.dit.camera_injection import INJECTIONS, build_injection
from model.dit.context_parallel import TokenSplit, check_split
from model.dit.embeddings import Patchify, TextProjection, TimestepEmbedding, unpatchify
from model.dit.projective import ProjectiveEncoding, num_projective_channels, projective_encoding
from model.dit.rope import rotary_table


@dataclass(kw_only=True)
class VideoDiTConfig:
    """Shape of the network; the defaults are Wan 2.1 with 1.3 billion parameters, plus the two additions.

    Attributes:
        in_channels: Latent channels, without the mask.
        patch_size: Latent frames, rows and columns per token.
        rope_scale: Factors of the rotary positions (frame, row, column). A network that is trained further at twice the
            height and width has 1/2 for rows and columns, so that a token keeps its place in the picture.
        cross_attn_norm: LayerNorm with weights before the attention to text.
        still_channels: Number of first channels of each head without rotary positions. So a network that was trained
            with `camera_attention`, and continues without it, keeps the positions of its other channels.
        camera: Whether there is a camera layer.
        camera_injection: Where and how it adds the camera (`model.dit.camera_injection`); `first`: the paper's patchify
            layer.
        camera_reference: Which frame the poses are relative to: the first of the `episode` (the paper's), or the first
            of each `clip`, separately for context and new frames (Table 5, "different reference").
        camera_init_std: Standard deviation of that layer's initial weights; 0 leaves a loaded base unchanged at step 0.
        camera_frequencies: Octaves of sines and cosines that this layer reads beside the map; the paper's has none.
        camera_attention: Half of each head's channels encode how one camera maps to another (`model.dit.projective`).
        mask_channel: Widen the patchify layer by one input channel that marks context frames.
    """

    in_channels: int = 16
    out_channels: int = 16
    width: int = 1536
    num_heads: int = 12
    num_blocks: int = 30
    ffn_dim: int = 8960
    text_dim: int = 4096
    freq_dim: int = 256
    patch_size: list[int] = field(default_factory=lambda: [1, 2, 2])
    eps: float = 1e-6
    rope_theta: float = 1e4
    rope_scale: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])
    cross_attn_norm: bool = True
    still_channels: int = 0
    camera: bool = True
    camera_injection: str = "first"
    camera_reference: str = "episode"
    camera_init_std: float = 0.0
    camera_frequencies: int = 0
    camera_attention: bool = False
    mask_channel: bool = True

    def __post_init__(self) -> None:
        """Reject shapes that cannot be built.

        Raises:
            ValueError: If a size is not positive or the width does not divide into even heads.
        """
        for name in ("in_channels", "out_channels", "width", "num_heads", "num_blocks", "ffn_dim", "text_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}; give a positive size")
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise ValueError(
                f"width: expected an even number of channels for each of {self.num_heads} heads, got {self.width}; "
                "choose a multiple of 2 * num_heads"
            )
        if self.freq_dim < 2 or self.freq_dim % 2:
            raise ValueError(f"freq_dim: expected an even number, got {self.freq_dim}; sines and cosines come in pairs")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ValueError(f"patch_size: expected three positive sizes, got {list(self.patch_size)}; e.g. [1, 2, 2]")
        if len(self.rope_scale) != 3 or not all(0 < factor < math.inf for factor in self.rope_scale):
            raise ValueError(
                f"rope_scale: expected three positive numbers, got {list(self.rope_scale)}; e.g. [1, 1, 1]"
            )
        if self.camera_attention and (self.patch_size[0] != 1 or self.head_dim < 8):
            raise ValueError(
                f"camera_attention: expected one latent frame a token and heads of 8 channels or more, got patch_size "
                f"{list(self.patch_size)} and {self.head_dim} channels; set camera_attention=false or change them"
            )
        self._check_camera()

    def _check_camera(self) -> None:
        if self.camera_injection not in INJECTIONS:
            raise ValueError(f"camera_injection: expected one of {list(INJECTIONS)}, got {self.camera_injection!r}")
        if self.camera_reference not in ("episode", "clip"):
            raise ValueError(f"camera_reference: expected 'episode' or 'clip', got {self.camera_reference!r}")
        if not 0 <= self.still_channels < self.head_dim or self.still_channels % 2:
            raise ValueError(
                f"still_channels: expected an even number below {self.head_dim}, a head's channels, got "
                f"{self.still_channels}"
            )
        is_mapped = self.camera and self.camera_injection in ("first", "every")
        without_effect = {
            "camera_injection": self.camera_injection != "first" and not self.camera,
            "camera_reference": self.camera_reference != "episode" and not (self.camera or self.camera_attention),
            "camera_init_std": self.camera_init_std != 0 and not is_mapped,
            "camera_frequencies": self.camera_frequencies != 0 and not is_mapped,
            "still_channels": self.still_channels != 0 and self.camera_attention,
        }
        for name in (name for name, is_idle in without_effect.items() if is_idle):
            raise ValueError(
                f"{name}: expected the default, it has no effect with camera={self.camera}, camera_injection="
                f"{self.camera_injection}, camera_attention={self.camera_attention}; got {getattr(self, name)!r}"
            )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads


class VideoDiT(nn.Module):
    """Predicts the velocity `noise - x0` of video latents from text, a camera path and clean context frames.

    Source: Wan 2.1 (the network); the paper, Sec. 3.3 (camera) and Sec. 3.4 (mask channel).
    """

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = "none"  # one of `gradient_checkpointing.GRADIENT_CHECKPOINTING`
        self.split: TokenSplit | None = None
        pt, ph, pw = config.patch_size
        self.patch_size = (pt, ph, pw)
        frames, rows, columns = config.rope_scale
        self.rope_scale = (frames, rows, columns)
        width = config.width
        self.patch_embedding = Patchify(config.in_channels, width, self.patch_size)
        # One more input channel of `patch_embedding`, as a layer of its own, so that Wan's tensor stays as it is and a
        # zero channel does not change a single bit of the base's sums.
        self.mask_embedding = Patchify(1, width, self.patch_size, bias=False) if config.mask_channel else None
        self.camera_embedding = None
        if config.camera:
            self.camera_embedding = build_injection(
                config.camera_injection,
                width,
                self.patch_size,
                config.num_heads,
                config.num_blocks,
                init_std=config.camera_init_std,
                num_frequencies=config.camera_frequencies,
            )
        self.text_projection = TextProjection(config.text_dim, width)
        self.time_embedding = TimestepEmbedding(config.freq_dim, width)
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.ffn_dim, config.eps, config.cross_attn_norm)
            for _ in range(config.num_blocks)
        )
        self.head = Head(width, config.out_channels * math.prod(config.patch_size), config.eps)
        self._initialise()

    def _initialise(self) -> None:
        """Wan's initialisation: Xavier matrices, normal(0.02) text and time embeddings, zero biases and zero head.

        The mask channel and, by default, the camera layer start at zero (ours, so that a loaded base is unchanged at
        step 0).
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.text_projection.linear_1, self.text_projection.linear_2):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (self.time_embedding.linear_1, self.time_embedding.linear_2):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        assert self.patch_embedding.bias is not None
        nn.init.zeros_(self.patch_embedding.bias)
        if self.mask_embedding is not None:
            nn.init.zeros_(self.mask_embedding.weight)
        nn.init.zeros_(self.head.linear.weight)
        if self.camera_embedding is not None:
            self.camera_embedding.initialise()

    def split_tokens(self, split: TokenSplit) -> None:
        """Shares the tokens of every window with other processes, which must be given the same inputs.

        All processes get the whole velocity. Gradients of parameters are partial sums, `split.size` times too large:
        their mean over the processes is right.

        Raises:
            ValueError: The heads do not divide, or the camera's branch cannot be split.
        """
        check_split(split.size, self.config.num_heads, self.config.camera_injection, 0)
        self.split = split
        for block in self.blocks:
            assert isinstance(block, Block)
            block.self_attention.split = split

    def encode_text(self, text: Float[Tensor, "b n c"]) -> list[KeyValue]:
        """Each block's keys and values of the text, to be passed as `text_keys` to every solver step of a clip."""
        tokens = self.text_projection(text)
        return [block.text_attention.project(tokens) for block in self.blocks]  # type: ignore[union-attr, operator]

    def embed_camera(self, plucker: Float[Tensor, "b f c_map h w"]) -> Float[Tensor, "b patch_f n_camera c_camera"]:
        """Camera tokens, to be passed as `camera_tokens` to every solver step of a clip.

        Raises:
            ValueError: If this network has no camera layer.
        """
        if self.camera_embedding is None:
            raise ValueError("plucker: expected None, got a map for a network without camera layer; set camera=True")
        return self.camera_embedding(plucker)

    def forward(
        self,
        latents: Float[Tensor, "b c f h w"],
        t: Float[Tensor, "b"] | Float[Tensor, "b f"],
        text: Float[Tensor, "b n c_text"] | None = None,
        plucker: Float[Tensor, "b f c_map h w"] | None = None,
        context_mask: Bool[Tensor, "b f"] | None = None,
        *,
        text_keys: Sequence[KeyValue] | None = None,
        camera_tokens: Float[Tensor, "b patch_f n_camera c_camera"] | None = None,
        projection: Float[Tensor, "b f 4 4"] | ProjectiveEncoding | None = None,
        num_context: int = 0,
    ) -> Float[Tensor, "b c_out new h w"]:
        """Velocity of every latent frame after the first `num_context`.

        Args:
            latents: Noised latents; clean ones in context frames.
            t: Diffusion time in [0, 1], one per sample or one per latent frame (context frames may carry 0).
            text: Encoded prompt; all zeros for the null prompt.
            plucker: Maps of the camera at latent resolution (`camera_inputs`); None or all zeros for the null camera.
            context_mask: True where a latent frame is given, not generated.
            text_keys: Result of `encode_text`, instead of `text`.
            camera_tokens: Result of `embed_camera`, instead of `plucker`.
            projection: World to image, for a network with `camera_attention`, or what `projective_encoding` makes of
                it; None or identities for the null camera.
            num_context: Context frames in front. Their velocity is not computed: the last block only attends to them.

        Raises:
            ValueError: If an argument does not fit the network or the other arguments.
        """
        self._check(latents, t, text, plucker, text_keys, camera_tokens, projection, num_context)
        _, _, f, h, w = latents.shape
        pt, config = self.patch_size[0], self.config
        x = self._embed(latents, context_mask)
        if plucker is not None:
            camera_tokens = self.embed_camera(plucker.to(latents.dtype))
        camera = self.camera_embedding
        if camera is not None and camera_tokens is not None:
            camera_tokens = camera.at_time(camera_tokens, t if t.ndim == 2 else t.unsqueeze(1))
        texts: Sequence[Tensor | KeyValue] = text_keys or [self.text_projection(text)] * config.num_blocks
        time_embedding, time_modulation = self.time_embedding(t if t.ndim == 2 else t.unsqueeze(1))
        rotary = self.rotary((f, h, w), x.device)
        if self.split is not None:
            x, by_frame = self.split.own(x, 2), rotary.unflatten(0, (f // pt, -1))
            rotary = self.split.own(by_frame, 1).flatten(0, 1)
            if camera_tokens is not None and camera_tokens.shape[2] > 1:
                camera_tokens = self.split.own(camera_tokens, 2)
        projective = projection
        if isinstance(projection, Tensor):
            projective = projective_encoding(projection, config.head_dim)
        num_dropped = num_context // pt
        for index, (block, read) in enumerate(zip(self.blocks, texts, strict=True), start=1):
            if camera is not None and camera_tokens is not None:
                x, camera_tokens = camera.inject(index - 1, x, camera_tokens)
            dropped = num_dropped if index == config.num_blocks else 0
            x = block(x, read, time_modulation, rotary, projective, dropped, self.gradient_checkpointing)
        if time_embedding.shape[1] > 1:
            time_embedding = time_embedding[:, num_dropped:]
        patches = self.head(x, time_embedding)
        if self.split is not None:
            patches = self.split.whole(patches)
        return unpatchify(patches, self.patch_size, h)

    def rotary(self, size: tuple[int, int, int], where: device) -> Tensor:
        """The rotary table of latents of `size` (frames, rows, columns); kept from call to call."""
        grid, config = (n // patch for n, patch in zip(size, self.patch_size, strict=True)), self.config
        still = num_projective_channels(config.head_dim) if config.camera_attention else config.still_channels
        return rotary_table(*grid, config.head_dim, config.rope_theta, where, still, self.rope_scale)

    def _embed(self, latents: Tensor, context_mask: Tensor | None) -> Tensor:
        """Visual tokens plus mask channel."""
        x: Tensor = self.patch_embedding(latents)
        if context_mask is not None:
            if self.mask_embedding is None:
                raise ValueError(
                    "context_mask: expected None, got a mask for a network without that channel; set mask_channel=True"
                )
            b, _, f, h, w = latents.shape
            if tuple(context_mask.shape) != (b, f):
                raise ValueError(
                    f"context_mask: expected [{b}, {f}], got {list(context_mask.shape)}; one per latent frame"
                )
            mask = context_mask.to(latents.dtype)[:, None, :, None, None].expand(-1, -1, -1, h, w)
            x = x + self.mask_embedding(mask)
        return x

    def _check(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor | None,
        plucker: Tensor | None,
        text_keys: Sequence[KeyValue] | None,
        camera_tokens: Tensor | None,
        projection: Tensor | ProjectiveEncoding | None,
        num_context: int,
    ) -> None:
        config = self.config
        b, c, f, h, w = latents.shape
        pt, ph, pw = self.patch_size
        if c != config.in_channels or f % pt or h % ph or w % pw:
            raise ValueError(
                f"latents: expected [b, {config.in_channels}, f, h, w] with f h w multiples of {self.patch_size}, "
                f"got {list(latents.shape)}; encode with this network's VAE and crop"
            )
        if not 0 <= num_context < f or num_context % pt:
            raise ValueError(
                f"num_context: expected 0 to {f - 1}, in steps of {pt}, got {num_context}; leave a frame to predict"
            )
        if tuple(t.shape) not in ((b,), (b, f)):
            raise ValueError(
                f"t: expected [{b}] or [{b}, {f}], got {list(t.shape)}; one per sample or per latent frame"
            )
        if t.ndim == 2 and pt != 1:
            raise ValueError(f"t: expected one per sample for temporal patch {pt}, got {list(t.shape)}; pass t as [b]")
        if (text is None) == (text_keys is None):
            raise ValueError("text: expected exactly one of text and text_keys, got both or none; pass one")
        if plucker is not None and camera_tokens is not None:
            raise ValueError("plucker: expected at most one of plucker and camera_tokens, got both; pass one")
        if text is not None and text.shape[-1] != config.text_dim:
            raise ValueError(f"text: expected {config.text_dim} channels, got {text.shape[-1]}; use its text encoder")
        channels = 6 if self.camera_embedding is None else self.camera_embedding.num_channels
        if plucker is not None and tuple(plucker.shape) != (b, f, channels, h, w):
            raise ValueError(
                f"plucker: expected [{b}, {f}, {channels}, {h}, {w}] like the latents, got {list(plucker.shape)}; "
                "make one map per latent frame at latent resolution"
            )
        if projection is not None and not config.camera_attention:
            raise ValueError("projection: expected None for a network without camera_attention, got matrices")
        if isinstance(projection, Tensor) and tuple(projection.shape) != (b, f, 4, 4):
            raise ValueError(
                f"projection: expected [{b}, {f}, 4, 4], got {list(projection.shape)}; one per latent frame"
            )
