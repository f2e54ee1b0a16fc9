"""Our own small network for features, for use without weights of I3D, VideoMAE or CLIP.

It was trained to name theme, colours, shapes and motions of rendered clips (`python -m model.cli.train_lab_network`).
Its figures have their own names, `frechet_lab` and `lab_consistency`: they compare films with one another, but not
with a paper's figures.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint import load_component
from model.fingerprint import fingerprint

SHIPPED = Path(__file__).parents[2] / "pretrained" / "lab_network"
NUM_FRAMES = 16
# the names of each head: fixed with the weights, even if the renderer gets new ones
NAMES: dict[str, tuple[str, ...]] = {
    "theme": (
        "a pink dawn",
        "a green meadow",
        "a violet dusk",
        "a golden desert",
        "a misty morning",
        "a snowy plain",
        "a moonlit night",
        "a turquoise lagoon",
    ),
    "colours": ("red", "orange", "yellow", "green", "teal", "blue", "purple", "white"),
    "shapes": ("box", "pillar", "sphere", "cylinder", "cone", "dome"),
    "motions": ("rolling", "sliding", "orbiting", "bouncing", "spinning"),
}


@dataclass(kw_only=True)
class LabNetworkConfig:
    """Sizes of the network.

    Attributes:
        height: Pixels that every frame is resized to, whatever its aspect.
        width: Likewise.
        channels: Of the three stages of the frames' network.
        motion_channels: Of the two layers that convolve over time.
        features: Number for a frame, and for the motion of a clip: a clip has twice as many.
    """

    height: int = 48
    width: int = 64
    channels: list[int] = field(default_factory=lambda: [32, 64, 96])
    motion_channels: int = 48
    features: int = 32


class LabNetwork(nn.Module):
    """Features of frames; a clip's features are the frames' mean and features of the motion."""

    def __init__(self, config: LabNetworkConfig) -> None:
        """Builds the network."""
        super().__init__()
        self.config = config
        first, second, third = config.channels
        self.frames = nn.Sequential(_step(3, first), _step(first, second))
        self.looks = nn.Sequential(_step(second, third, stride=1), _step(third, third))
        self.frame_features = nn.Linear(2 * third, config.features)
        width = config.motion_channels
        self.motion = nn.Sequential(_step_in_time(second, width), _step_in_time(width, width))
        self.motion_features = nn.Linear(2 * width, config.features)
        self.heads = nn.ModuleDict({head: nn.Linear(2 * config.features, len(names)) for head, names in NAMES.items()})

    def forward(self, clips: UInt8[Tensor, "b f h w 3"]) -> dict[str, Tensor]:
        """Returns the logits of every head."""
        features = self.clip_features(self.prepared(clips))
        return {name: head(features) for name, head in self.heads.items()}

    def prepared(self, clips: UInt8[Tensor, "b f h w 3"]) -> Float[Tensor, "b f 3 rows columns"]:
        """Returns the frames in [-1, 1] at the network's size."""
        pictures = rearrange(clips, "b f h w c -> (b f) c h w").float() / 127.5 - 1
        size = (self.config.height, self.config.width)
        if pictures.shape[-2:] != size:
            pictures = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
        return pictures.unflatten(0, clips.shape[:2])

    def of_frames(self, clips: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f d"]:
        """Returns the features of every single frame."""
        return self._looks(self.frames(clips.flatten(0, 1))).unflatten(0, clips.shape[:2])

    def clip_features(self, clips: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b e"]:
        """Returns the features of every clip."""
        shallow = self.frames(clips.flatten(0, 1))
        looks = self._looks(shallow).unflatten(0, clips.shape[:2])
        in_time = rearrange(shallow, "(b f) c h w -> b c f h w", f=clips.shape[1])
        moves = functional.avg_pool3d(in_time[:, :, 1:] - in_time[:, :, :-1], (1, 2, 2))
        motion = self.motion_features(_pooled(self.motion(moves)))
        return torch.cat((looks.mean(dim=1), motion), dim=-1)

    def _looks(self, shallow: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return self.frame_features(_pooled(self.looks(shallow)))


class _LabFeatures:
    def __init__(self, network: LabNetwork, device: str = "cpu") -> None:
        """Moves the network to a device."""
        self._network, self._device = network.to(device).eval().requires_grad_(False), device
        self.name = f"lab network {_digest(network)}"


class LabVideos(_LabFeatures):
    """`VideoNetwork`: 64 features per clip, from 16 frames that are spread evenly over the clip."""

    metric = "frechet_lab"

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " d"]:
        """Returns the features."""
        chosen = torch.linspace(0, len(frames) - 1, NUM_FRAMES).round().long()
        clip = self._network.prepared(frames[chosen].to(self._device)[None])
        return self._network.clip_features(clip)[0].cpu()


class LabImages(_LabFeatures):
    """`ImageNetwork`: 32 features per frame."""

    metric = "lab_consistency"

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f d"]:
        """Returns the features."""
        return self._network.of_frames(self._network.prepared(frames.to(self._device)[None]))[0].cpu()


def load_lab_network(folder: str | Path = SHIPPED) -> LabNetwork:
    """Returns the network with its weights. Raises as `load_component`."""
    return load_component(folder, LabNetworkConfig, LabNetwork)


def _digest(network: nn.Module) -> str:
    """Returns a short name of the weights: other weights give other figures."""
    return fingerprint(*network.state_dict().values())[:8]


def _pooled(maps: Float[Tensor, "n c *place"]) -> Float[Tensor, "n two_c"]:
    """Mean and maximum over all places: the mean alone hardly shows a small object."""
    places = maps.flatten(2)
    return torch.cat((places.mean(dim=-1), places.amax(dim=-1)), dim=-1)


def _step(inputs: int, outputs: int, stride: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU())


def _step_in_time(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU())
