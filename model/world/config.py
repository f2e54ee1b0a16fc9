"""`world.yaml`: the settings of a world folder, and how they are read and written."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from model.config_file import read_mapping, read_yaml
from model.geometry.camera import intrinsics_from_fov
from model.whole_file import write_text
from model.world.clip_sampler import SamplerConfig
from model.world.protocol import WorldSpec

WORLD_FILE = "world.yaml"
DEFAULT_SAMPLER = "default"


# minimum and maximum of each setting, far beyond any video model of today
_RANGES: dict[str, tuple[float, float]] = {
    "height": (1, 16_384),
    "width": (1, 16_384),
    "fps": (0.01, 1_000),
    "horizontal_fov_deg": (0.1, 179.9),
    "poses_per_clip": (1, 1_024),
    "frames_per_latent": (1, 64),
    "context_latents": (1, 4_096),
    "memory_latents": (0, 4_096),
    "memory_capacity": (0, 65_536),
    "familiar_psnr": (0, 100),
}


@dataclass(kw_only=True)
class TextEncoderConfig:
    """The text encoder. `tiny_vocabulary` uses `vocabulary`, `dim`, `num_tokens`; `umt5` uses `num_tokens`, `folder`.

    `folder` holds `text_encoder/` and `tokenizer/`, relative to the world's own folder.
    """

    kind: str = "tiny_vocabulary"
    vocabulary: list[str] = field(default_factory=list)
    dim: int = 64
    num_tokens: int = 24
    folder: str = "."

    def __post_init__(self) -> None:
        """Rejects unknown kinds.

        Raises:
            ValueError: for a kind that does not exist.
        """
        if self.kind not in ("tiny_vocabulary", "umt5"):
            raise ValueError(f"text_encoder.kind: expected 'tiny_vocabulary' or 'umt5', got {self.kind!r}")
        _check_ranges(self, {"dim": (1, 65_536), "num_tokens": (1, 65_536)}, "text_encoder.")


@dataclass(kw_only=True)
class NamedSamplerConfig:
    """A further sampler of a world, with its own weights: a student, or the teacher of the others.

    Attributes:
        dit: Name of its network's folder in the world's folder.
        sampler: How a clip is sampled.
        opening: How the first latent frame is sampled in an episode without image.
    """

    dit: str = "dit"
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    opening: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        """Rejects folders outside the world's folder.

        Raises:
            ValueError: for anything but a plain name.
        """
        if not re.fullmatch(r"\w+", self.dit):
            raise ValueError(f"samplers: expected the name of a folder in the world's for dit, got {self.dit!r}")
        _check_opening(self.opening)


@dataclass(kw_only=True)
class WorldConfig:
    """Everything about a world that is not weights.

    Attributes:
        height: Pixels.
        width: Pixels.
        fps: Frames a second.
        horizontal_fov_deg: Default field of view.
        poses_per_clip: Latent frames, each with a pose, generated at once.
        frames_per_latent: Frames of a latent frame; the VAE's temporal stride.
        context_latents: Maximum number of latent frames that condition the next clip.
        memory_latents: How many of them are chosen from the past by what they show; see `model.world.memory`.
        memory_capacity: Latent frames that can be chosen from.
        sampler: How a clip is sampled.
        opening: How the first latent frame is sampled in an episode without image.
        samplers: Others by name, such as `quality` and `fast`; `default` is the two above with the weights in `dit`.
        text_encoder: Which one.
        default_prompts: One is drawn by the seed for an episode without prompt and image.
        familiar_psnr: PSNR (dB) that the VAE reaches at least on pictures of the kind that the world was trained on. A
            first frame below it causes a warning. None: not measured, no warning.
    """

    height: int = 48
    width: int = 80
    fps: float = 12.0
    horizontal_fov_deg: float = 75.0
    poses_per_clip: int = 4
    frames_per_latent: int = 4
    context_latents: int = 5
    memory_latents: int = 0
    memory_capacity: int = 64
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    opening: SamplerConfig = field(default_factory=SamplerConfig)
    samplers: dict[str, NamedSamplerConfig] = field(default_factory=dict)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    default_prompts: list[str] = field(default_factory=list)
    familiar_psnr: float | None = None

    def __post_init__(self) -> None:
        """Rejects sizes that no world has, so that a downloaded folder cannot fill the memory.

        Raises:
            ValueError: for a number out of range.
        """
        _check_ranges(self, _RANGES)
        _check_opening(self.opening)

    def sampler_named(self, name: str | None) -> NamedSamplerConfig:
        """The sampler of this name; None and `default` are the world's own.

        Raises:
            ValueError: if there is none.
        """
        if name in (None, DEFAULT_SAMPLER):
            return NamedSamplerConfig(sampler=self.sampler, opening=self.opening)
        if name not in self.samplers:
            known = [DEFAULT_SAMPLER, *self.samplers]
            raise ValueError(f"sampler: expected one of this world's, {known}, got {name!r}")
        return self.samplers[name]

    def spec(self) -> WorldSpec:
        """Sizes and units of the world."""
        intrinsics = intrinsics_from_fov(math.radians(self.horizontal_fov_deg), self.height, self.width)
        fx, fy, cx, cy = intrinsics.tolist()
        return WorldSpec(
            height=self.height,
            width=self.width,
            intrinsics=(fx, fy, cx, cy),
            fps=self.fps,
            poses_per_clip=self.poses_per_clip,
            frames_per_clip=self.poses_per_clip * self.frames_per_latent,
        )


def wan_config(is_wan22: bool = False) -> WorldConfig:
    """Settings of a downloaded Wan pipeline without a `world.yaml`: 2.1 (1.3B, 480p), or 2.2 (5B, 704p).

    Both weights are Wan's own guidance scale: while the camera layer is zero this is plain text guidance, and with
    equal weights the branch with text alone is not evaluated. Source: Wan's defaults (2.1: shift 3 and scale 5 at 480p,
    16 fps; 2.2: shift and scale 5, 24 fps).
    """
    shift = 5.0 if is_wan22 else 3.0
    return WorldConfig(
        height=704 if is_wan22 else 480,
        width=1280 if is_wan22 else 832,
        fps=24.0 if is_wan22 else 16.0,
        sampler=SamplerConfig(num_steps=32, shift=shift, guidance_text=5.0, guidance_camera=5.0),
        opening=SamplerConfig(num_steps=50, shift=shift, guidance_text=5.0, guidance_camera=5.0),
        text_encoder=TextEncoderConfig(kind="umt5", dim=4096, num_tokens=512),
    )


def world_kind(folder: Path) -> str | None:
    """The name of the registered world that this folder is for: `kind` in its `world.yaml`; None for our own worlds.

    Raises:
        ValueError: for broken YAML.
    """
    path = folder / WORLD_FILE
    kind = read_mapping(path).get("kind") if path.is_file() else None
    return None if kind is None else str(kind)


def read_world_config(folder: Path) -> WorldConfig:
    """The folder's `world.yaml`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for broken YAML, unknown keys, or values of the wrong type or out of range.
    """
    path = folder / WORLD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"expected {WORLD_FILE} in {folder}, found none")
    return read_yaml(path, WorldConfig)


def write_world_config(folder: Path, config: WorldConfig) -> None:
    """Writes `world.yaml`, whole or not at all."""
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    write_text(folder / WORLD_FILE, text)


def _check_opening(opening: SamplerConfig) -> None:
    if opening.context_noise != 0:
        raise ValueError(f"opening.context_noise: expected 0, an opening has no context, got {opening.context_noise}")


def _check_ranges(config: object, ranges: dict[str, tuple[float, float]], prefix: str = "") -> None:
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{prefix}{name}: expected {least:g} to {most:g}, got {value}")
