"""A linear autoencoder of causal patches that starts as their principal components, which the network improves."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

_VIDEO = "b c (f t) (h s) (w r)"
_PATCHES = "b f h w (c t s r)"


class FixedLinear(nn.Module):
    """An affine map that is saved with the weights and not trained; zero until it is set."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_dim, in_dim))
        self.register_buffer("bias", torch.zeros(out_dim))

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d_out"]:
        """Along the last axis."""
        return F.linear(x, self.weight, self.bias)

    def set(self, weight: Float[Tensor, "d_out d"], bias: Float[Tensor, "d_out"]) -> None:
        self.weight.copy_(weight)
        self.bias.copy_(bias)


class LinearPath(nn.Module):
    """Each latent is a linear function of its own patch of video, and the patch a linear function of its latent.

    The first frame has patches of one frame, all others patches of `temporal_stride` frames. Its weights are buffers:
    it is fitted once, not trained, because an optimiser's steps, equally large for all weights, would soon ruin the
    small components; the network can correct its errors.

    Source: ours, because a small convolutional autoencoder trained from random weights stays worse than the principal
    components of its patches for very long; as a correction to them it is better from the first step.
    """

    def __init__(self, channels: int, latent_channels: int, temporal_stride: int, spatial_stride: int) -> None:
        super().__init__()
        self.temporal_stride, self.spatial_stride = temporal_stride, spatial_stride
        first = channels * spatial_stride**2
        self.encode_first = FixedLinear(first, latent_channels)
        self.encode_rest = FixedLinear(first * temporal_stride, latent_channels)
        self.decode_first = FixedLinear(latent_channels, first)
        self.decode_rest = FixedLinear(latent_channels, first * temporal_stride)

    def encode(self, video: Float[Tensor, "b c f h w"], at_start: bool) -> Float[Tensor, "b c_z f_z h_z w_z"]:
        """Latents of a chunk; `at_start`: its first frame is the first of the video."""
        first, rest = self._patches(video, at_start)
        latents = torch.cat([self.encode_first(first), self.encode_rest(rest)], dim=1)
        return rearrange(latents, "b f h w c -> b c f h w")

    def decode(self, latents: Float[Tensor, "b c_z f_z h_z w_z"], at_start: bool) -> Float[Tensor, "b c f h w"]:
        """Video of a chunk of latents; `at_start`: its first latent is the first of the video."""
        z = rearrange(latents, "b c f h w -> b f h w c")
        first, rest = z[:, : int(at_start)], z[:, int(at_start) :]
        frames = [
            self._video_of(self.decode_first(first), 1),
            self._video_of(self.decode_rest(rest), self.temporal_stride),
        ]
        return torch.cat(frames, dim=2)

    @torch.no_grad()
    def init_from_pca(self, clips: Float[Tensor, "b c f h w"]) -> None:
        """Sets encoder and decoder to the whitened principal components of the patches of some clips.

        The code of a first frame is rotated (which loses nothing) to lie as near as possible to the code of a film in
        which that frame stands still, so that the first latent is distributed nearly like the others.
        """
        _, rest = (patches.flatten(0, 3).double() for patches in self._patches(clips, True))
        stills = self._patches_of(clips, 1).flatten(0, 3).double()
        width = len(self.encode_rest.bias)
        encode_rest, decode_rest, mean_rest = _whitened_components(rest, width)
        encode_first, decode_first, mean_first = _whitened_components(stills, width)
        still_clips = rearrange(stills, "n (c sr) -> n c sr", sr=self.spatial_stride**2)
        still_clips = still_clips.unsqueeze(2).expand(-1, -1, self.temporal_stride, -1).flatten(1)
        wanted = (still_clips - mean_rest) @ encode_rest.T
        u, _, vt = torch.linalg.svd(((stills - mean_first) @ encode_first.T).T @ wanted)
        turn = (u @ vt).T
        self.encode_first.set(turn @ encode_first, -(turn @ encode_first @ mean_first))
        self.decode_first.set(decode_first @ turn.T, mean_first)
        self.encode_rest.set(encode_rest, -(encode_rest @ mean_rest))
        self.decode_rest.set(decode_rest, mean_rest)

    def _patches(self, video: Tensor, at_start: bool) -> tuple[Tensor, Tensor]:
        first, rest = video[:, :, : int(at_start)], video[:, :, int(at_start) :]
        return self._patches_of(first, 1), self._patches_of(rest, self.temporal_stride)

    def _patches_of(self, video: Tensor, num_frames: int) -> Tensor:
        s = self.spatial_stride
        return rearrange(video, f"{_VIDEO} -> {_PATCHES}", t=num_frames, s=s, r=s)

    def _video_of(self, patches: Tensor, num_frames: int) -> Tensor:
        s = self.spatial_stride
        return rearrange(patches, f"{_PATCHES} -> {_VIDEO}", t=num_frames, s=s, r=s)


def _whitened_components(rows: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """(encode `width d`, decode `d width`, mean `d`): unit-variance codes of the largest principal components."""
    mean = rows.mean(dim=0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    top = vectors[:, -width:].flip(1)
    scale = values[-width:].flip(0).clamp(min=1e-8).sqrt()
    return (top / scale).T, top * scale, mean
