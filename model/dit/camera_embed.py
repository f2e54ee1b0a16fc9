"""The paper's contribution to the network: a patchify layer for Plucker maps, added to the visual tokens once."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.dit.embeddings import Patchify


class CameraInjection(nn.Module):
    """How the camera enters the transformer. This base class adds camera tokens before each of the first blocks.

    `forward` makes camera tokens once for all solver steps of a clip: `k * width` channels for the first k blocks.
    All-zero maps, the null camera, must add exactly nothing.
    """

    num_channels = 6  # of the maps: Plucker maps, or extrinsics
    least_time = 0.0  # diffusion time below which the camera is not used

    def initialise(self) -> None:
        """Sets weights that must differ from the network's own initialisation."""

    def at_time(self, tokens: Float[Tensor, "b f n d"], t: Float[Tensor, "b f_t"]) -> Float[Tensor, "b f n d"]:
        """Camera tokens for these diffusion times."""
        return tokens

    def inject(
        self, block: int, x: Float[Tensor, "b f n d"], tokens: Float[Tensor, "b f n_camera c"]
    ) -> tuple[Float[Tensor, "b f n d"], Float[Tensor, "b f n_camera c"]]:
        """Visual tokens with the camera added, before block number `block`, and the camera tokens for the next one."""
        width = x.shape[-1]
        own = tokens[..., block * width : (block + 1) * width]
        return (x + own if own.shape[-1] else x), tokens


def is_given(maps: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """1 for rows with a camera, 0 for the null camera."""
    return maps.flatten(1).any(dim=1)[:, None, None, None].to(maps)


class CameraEmbedding(CameraInjection):
    """Plucker map -> one camera token per visual token, to be added element-wise before the first block.

    Same patch, strides and width as the visual patchify layer, and nothing else: no encoder, no injection into later
    blocks (which the paper's Table 4 shows to cost motion). Zero-initialised by default, so that a pretrained base is
    unchanged at step 0. A network trained from random weights needs `init_std`, which gives camera tokens the size of
    visual ones: if it learns to ignore them at first, it needs long to use them again. No bias: the all-zero map of
    unlabelled clips must add exactly nothing.

    `num_frequencies` octaves of sines and cosines of the map are further inputs, because neighbouring rays differ
    little in the six numbers alone. The paper's layer has none.

    Source: the paper, Sec. 3.3; initialisation, frequencies and the missing bias are ours.
    """

    def __init__(
        self, width: int, patch_size: tuple[int, int, int], init_std: float = 0.0, num_frequencies: int = 0
    ) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.patchify = Patchify(num_camera_channels(num_frequencies), width, patch_size, bias=False)
        nn.init.normal_(self.patchify.weight, std=init_std)

    def forward(self, plucker: Float[Tensor, "b f 6 h w"]) -> Float[Tensor, "b patch_f patch_hw d"]:
        """Camera tokens of Plucker maps at latent resolution (moment, direction; metres)."""
        maps = plucker.transpose(1, 2)
        if self.num_frequencies:
            maps = torch.cat([maps, *fourier_features(maps, self.num_frequencies)], dim=1)
        return self.patchify(maps)


def num_camera_channels(num_frequencies: int) -> int:
    """Channels that the camera patchify layer reads."""
    return 6 * (1 + 2 * num_frequencies)


def fourier_features(maps: Float[Tensor, "b 6 f h w"], num_frequencies: int) -> list[Float[Tensor, "b 6 f h w"]]:
    """sin(w P) and cos(w P) - 1 for w = pi/2, pi, 2 pi ...: zero where the map is, so the null camera adds nothing."""
    features = []
    for octave in range(num_frequencies):
        angle = maps * (math.pi / 2 * 2**octave)
        features += [angle.sin(), angle.cos() - 1]
    return features
