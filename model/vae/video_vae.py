"""The causal video autoencoder: one class for Wan 2.1's VAE, Wan 2.2's (16x in space) and for the tiny one.

4x in time (the first frame alone), 8x in space, KL-regularised; streams in both directions through an explicit cache.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from model.vae.causal import Cache, CausalConv3d, Stream
from model.vae.coders import Decoder, Encoder, Levels
from model.vae.linear_path import LinearPath

_PIXELS = "b c f (h q) (w r)"
_PATCHES = "b (c r q) f h w"

MOST_ELEMENTS = 2**27
"""Of the largest result within the networks: longer videos pass in pieces, which changes memory, not the result.

Source: ours, because Wan's encoder would take 54 GB for 93 frames of 384x640 at once, and takes 4.8 in pieces.
"""


@dataclass(kw_only=True)
class VideoVAEConfig:
    """Shape of a VideoVAE. The defaults are Wan 2.1's; levels are listed from fine to coarse.

    Attributes:
        in_channels: channels of the video.
        latent_channels: channels of the latents.
        base_dim: width of the first level of the encoder.
        decoder_base_dim: the same for the decoder; None: `base_dim`.
        dim_mult: width of each level as a multiple of the base.
        num_res_blocks: residual blocks a level in the encoder.
        decoder_num_res_blocks: the same in the decoder; None: one more than in the encoder.
        temporal_downsample: for each step between two levels, whether it halves time.
        spatial_downsample: the same for height and width.
        temporal_kernels: for each level, how many frames its convolutions see; None: 3 everywhere.
        patch_size: side of the pixel squares that become channels before the network.
        is_residual: shortcuts without weights lead around the levels (`model.vae.shortcuts`), as in Wan 2.2.
        linear_path: adds the linear path to the encoder's mean and the decoder's output.
        residual_scale: factor of the network's share in those two sums. The correction is an order of magnitude smaller
            than the video, and an optimiser's first steps should be, too.
        initial_logvar: log variance that the posterior of a linear path starts with. A decoder that learns on a frozen
            encoder sees this much noise, and tolerates as much in generated latents.
        latents_mean: mean of each channel of the posterior mean over data; None: zeros.
        latents_std: its standard deviation; None: ones.
    """

    in_channels: int = 3
    latent_channels: int = 16
    base_dim: int = 96
    decoder_base_dim: int | None = None
    dim_mult: list[int] = field(default_factory=lambda: [1, 2, 4, 4])
    num_res_blocks: int = 2
    decoder_num_res_blocks: int | None = None
    temporal_downsample: list[bool] = field(default_factory=lambda: [False, True, True])
    spatial_downsample: list[bool] = field(default_factory=lambda: [True, True, True])
    temporal_kernels: list[int] | None = None
    patch_size: int = 1
    is_residual: bool = False
    linear_path: bool = False
    residual_scale: float = 1.0
    initial_logvar: float = -7.0
    latents_mean: list[float] | None = None
    latents_std: list[float] | None = None

    @property
    def temporal_stride(self) -> int:
        """Frames of a latent frame, the first excepted."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def spatial_stride(self) -> int:
        """Pixels along a side of a latent pixel."""
        return self.patch_size * 2 ** sum(self.spatial_downsample)

    def elements_a_latent(self, height: int, width: int) -> int:
        """Elements of the largest result within the networks, for one latent frame of a video of this size."""
        dim = max(self.base_dim, self.decoder_base_dim or 0)
        return self.temporal_stride * height * width * dim // self.patch_size**2

    def latents_at_once(self, batch: int, height: int, width: int) -> int:
        """The most latent frames in one piece of videos of this size."""
        return max(1, MOST_ELEMENTS // (batch * self.elements_a_latent(height, width)))

    def validate(self) -> None:
        """Raises ValueError where lists do not fit together."""
        steps, levels = len(self.dim_mult) - 1, len(self.dim_mult)
        sizes = {
            "temporal_downsample": (self.temporal_downsample, steps),
            "spatial_downsample": (self.spatial_downsample, steps),
            "temporal_kernels": (self.temporal_kernels, levels),
            "latents_mean": (self.latents_mean, self.latent_channels),
            "latents_std": (self.latents_std, self.latent_channels),
        }
        for name, (values, expected) in sizes.items():
            if values is not None and len(values) != expected:
                raise ValueError(f"{name}: expected {expected} entries, got {len(values)}; make the lists agree")
        if self.residual_scale != 1.0 and not self.linear_path:
            raise ValueError(
                f"residual_scale: expected 1 without linear_path, got {self.residual_scale}; it has no effect"
            )


class VideoVAE(nn.Module):
    """Video in [-1, 1] to latents and back.

    `1 + temporal_stride * k` frames become `1 + k` latent frames. Latents that leave `encode` and enter `decode` are
    normalised by `config.latents_mean` and `latents_std`; those of `posterior` and `forward` are not.
    """

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        config.validate()
        self.config = config
        pixels = config.in_channels * config.patch_size**2
        z = config.latent_channels
        kernels = config.temporal_kernels or [3] * len(config.dim_mult)
        steps = (config.spatial_downsample, config.temporal_downsample, kernels, config.is_residual)
        encoder_levels = Levels([config.base_dim * m for m in config.dim_mult], config.num_res_blocks, *steps)
        decoder_dims = [(config.decoder_base_dim or config.base_dim) * m for m in config.dim_mult]
        num_blocks = config.decoder_num_res_blocks
        num_blocks = config.num_res_blocks + 1 if num_blocks is None else num_blocks
        self.encoder = Encoder(pixels, 2 * z, encoder_levels)
        self.to_posterior = CausalConv3d(2 * z, 2 * z, 1, 1)
        self.from_latents = CausalConv3d(z, z, 1, 1)
        self.decoder = Decoder(z, pixels, Levels(decoder_dims, num_blocks, *steps))
        self.linear_path = None
        if config.linear_path:
            self.linear_path = LinearPath(config.in_channels, z, self.temporal_stride, self.spatial_stride)
            self._silence_networks()

    @property
    def temporal_stride(self) -> int:
        """Frames of a latent frame, the first excepted."""
        return self.config.temporal_stride

    @property
    def spatial_stride(self) -> int:
        """Pixels along a side of a latent pixel."""
        return self.config.spatial_stride

    def posterior(
        self, video: Float[Tensor, "b c f h w"]
    ) -> tuple[Float[Tensor, "b c_z f_z h_z w_z"], Float[Tensor, "b c_z f_z h_z w_z"]]:
        """(mean, log variance) of the latents of a whole video, not normalised.

        Raises:
            ValueError: the video's shape does not fit the strides.
        """
        return self._encode(video, Stream())[:2]

    def forward(
        self, video: Float[Tensor, "b c f h w"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b c f h w"], Float[Tensor, "b c_z f_z h_z w_z"], Float[Tensor, "b c_z f_z h_z w_z"]]:
        """(reconstruction from a sample of the posterior, mean, log variance): what a training step needs."""
        mean, logvar = self.posterior(video)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return self._decode(mean + (0.5 * logvar).exp() * noise, Stream())[0], mean, logvar

    def encode(self, video: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c_z f_z h_z w_z"]:
        """Normalised mean latents of a whole video.

        Raises:
            ValueError: the video's shape does not fit the strides.
        """
        return self.normalise(self.posterior(video)[0])

    def encode_chunk(
        self, video: Float[Tensor, "b c f h w"], cache: Cache | None = None
    ) -> tuple[Float[Tensor, "b c_z f_z h_z w_z"], Cache]:
        """(latents, cache) of the next frames of a video, as `encode` returns them for the whole video at once.

        Args:
            video: `1 + temporal_stride * k` frames at the start of a video, `temporal_stride * k` later.
            cache: what the previous chunk returned; None starts a video.

        Raises:
            ValueError: the video's shape does not fit the strides, or the cache does not fit the video.
        """
        mean, _, stream = self._encode(video, Stream(cache))
        return self.normalise(mean), stream.memory()

    def decode(self, latents: Float[Tensor, "b c_z f_z h_z w_z"]) -> Float[Tensor, "b c f h w"]:
        """Whole video of normalised latents, not clamped."""
        return self._decode(self.denormalise(latents), Stream())[0]

    def decode_chunk(
        self, latents: Float[Tensor, "b c_z f_z h_z w_z"], cache: Cache | None = None
    ) -> tuple[Float[Tensor, "b c f h w"], Cache]:
        """(video, cache) of the next latents of a video; any number of them.

        Args:
            latents: normalised.
            cache: what the previous chunk returned; None starts a video, whose first latent is one frame. Its tensors
                have the batch first and the same shapes after every chunk.

        Raises:
            ValueError: the cache does not fit the latents.
        """
        return self.continue_decoding(self.denormalise(latents), cache)

    def continue_decoding(
        self, z: Float[Tensor, "b c_z f_z h_z w_z"], cache: Cache | None = None
    ) -> tuple[Float[Tensor, "b c f h w"], Cache]:
        """`decode_chunk` of latents that are denormalised: on a GPU, no number passes between it and the computer."""
        video, stream = self._decode(z, Stream(cache))
        return video, stream.memory()

    def use_channels_last(self) -> None:
        """Stores the convolutions' weights, and thereby activations, with the channels innermost, as GPUs want them.

        Results are the same up to rounding; caches keep their format.
        """
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d | nn.Conv3d):
                weight = conv.weight.data
                conv.weight.data = weight.contiguous(memory_format=formats[weight.ndim])

    def set_latent_statistics(self, mean: Float[Tensor, "c_z"], std: Float[Tensor, "c_z"]) -> None:
        """Makes `encode` return latents of zero mean and unit variance; kept in `config`, to be saved with the weights.

        Args:
            mean: of each channel of the posterior mean over the data.
            std: the same for the standard deviation.

        Raises:
            ValueError: a standard deviation is not positive, or the number of channels differs.
        """
        if not bool((std > 0).all() and std.isfinite().all() and mean.isfinite().all()):
            raise ValueError(f"std: expected finite mean and positive std, got {mean.tolist()} and {std.tolist()}")
        self.config.latents_mean, self.config.latents_std = mean.tolist(), std.tolist()
        self.config.validate()

    def init_linear_path_from_pca(self, clips: Float[Tensor, "b c f h w"]) -> None:
        """Starts the linear path at the principal components of some clips in [-1, 1].

        Raises:
            ValueError: the configuration has no linear path, or the clips' shape does not fit the strides.
        """
        if self.linear_path is None:
            raise ValueError(
                "linear_path: expected true in the configuration, got false; there is nothing to initialise"
            )
        self._check_video(clips, at_start=True)
        self.linear_path.init_from_pca(clips)

    def freeze_encoder(self) -> None:
        """Freezes everything that the latents depend on; the decoder is still trained.

        Raises:
            ValueError: without a linear path an untrained encoder would be frozen.
        """
        if self.linear_path is None:
            raise ValueError("freeze_encoder: expected linear_path=true, got false; train the encoder")
        for part in (self.encoder, self.to_posterior, self.linear_path.encode_first, self.linear_path.encode_rest):
            part.requires_grad_(False)

    def normalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """To zero mean and unit variance by the configured statistics."""
        mean, std = self._statistics(z)
        return (z - mean) / std

    def denormalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """Inverse of `normalise`."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _encode(self, video: Tensor, stream: Stream) -> tuple[Tensor, Tensor, Stream]:
        """(mean, log variance, the stream of the last piece)."""
        self._check_video(video, stream.at_start)
        t, num_frames = self.temporal_stride, video.shape[2]
        first = t - 1 if stream.at_start else 0  # frames that the first latent frame lacks
        latents = self._pieces((num_frames + first) // t, video.shape[0], *video.shape[3:])
        pieces = video.split([t * n - (first if i == 0 else 0) for i, n in enumerate(latents)], dim=2)
        results = []
        for i, piece in enumerate(pieces):
            stream = Stream(stream.memory()) if i else stream
            results.append(self._encode_piece(piece, stream))
        mean, logvar = (torch.cat(parts, dim=2) for parts in zip(*results, strict=True))
        return mean, logvar, stream

    def _encode_piece(self, video: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        p = self.config.patch_size
        patches = rearrange(video, f"{_PIXELS} -> {_PATCHES}", q=p, r=p)
        mean, logvar = self.to_posterior(self.encoder(patches, stream), stream).chunk(2, dim=1)
        if self.linear_path is not None:
            mean = self.config.residual_scale * mean + self.linear_path.encode(video, stream.at_start)
        return mean, logvar.clamp(-30.0, 20.0)

    def _decode(self, z: Tensor, stream: Stream) -> tuple[Tensor, Stream]:
        """(video, the stream of the last piece)."""
        height, width = (self.spatial_stride * size for size in z.shape[3:])
        results = []
        for i, piece in enumerate(z.split(self._pieces(z.shape[2], z.shape[0], height, width), dim=2)):
            stream = Stream(stream.memory()) if i else stream
            results.append(self._decode_piece(piece, stream))
        return torch.cat(results, dim=2), stream

    def _decode_piece(self, z: Tensor, stream: Stream) -> Tensor:
        p = self.config.patch_size
        patches = self.decoder(self.from_latents(z, stream), stream)
        video = rearrange(patches, f"{_PATCHES} -> {_PIXELS}", q=p, r=p)
        if self.linear_path is None:
            return video
        return self.config.residual_scale * video + self.linear_path.decode(z, stream.at_start)

    def _pieces(self, num_latents: int, batch: int, height: int, width: int) -> list[int]:
        """Latent frames of each piece in which a batch of videos passes the networks."""
        size = self.config.latents_at_once(batch, height, width)
        whole, rest = divmod(num_latents, size)
        return [size] * whole + [rest] * (rest > 0)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        z = self.config.latent_channels
        mean = like.new_tensor(self.config.latents_mean or [0.0] * z)
        std = like.new_tensor(self.config.latents_std or [1.0] * z)
        return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def _silence_networks(self) -> None:
        """Zeroes the last layers, so that training starts at the linear path."""
        z = self.config.latent_channels
        for conv in (self.encoder.conv_out, self.decoder.conv_out):
            nn.init.zeros_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        assert self.to_posterior.bias is not None
        with torch.no_grad():
            self.to_posterior.bias[:z].zero_()
            self.to_posterior.bias[z:].fill_(self.config.initial_logvar)

    def _check_video(self, video: Tensor, at_start: bool) -> None:
        s, t = self.spatial_stride, self.temporal_stride
        c, f, h, w = video.shape[1:]
        frames_fit = f % t == (1 if t > 1 and at_start else 0) and f > 0
        if c != self.config.in_channels or not frames_fit or h % s or w % s:
            frames = f"{'1 + ' if at_start else ''}{t}k"
            raise ValueError(
                f"video: expected [b, {self.config.in_channels}, {frames}, multiple of {s}, multiple of {s}], "
                f"got {list(video.shape)}; crop it or pad it"
            )
