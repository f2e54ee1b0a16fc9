"""Where a training of the DiT starts: from nothing, from weights, or (fine-tuning) from a world that is trained."""

import dataclasses
from typing import Any

from model.build import TextConfig, TrainConfig
from model.checkpoint import load_config
from model.data.clips import ClipSetConfig
from model.data.synthetic.captions import VOCABULARY
from model.dit.video_dit import VideoDiTConfig
from model.world.config import TextEncoderConfig, WorldConfig, read_world_config
from model.world.folder import world_folder


def starting_point(config: TrainConfig) -> tuple[TrainConfig, WorldConfig]:
    """The settings with the paths and sizes of the initial world, if there is one; and the world that is begun with.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: A setting is the initial world's own, or nothing says what to train.
    """
    if config.initial_world is None:
        if config.vae is None:
            raise ValueError("vae: expected the folder of a trained VAE, got none; name one, or initial_world=tiny")
        return config, WorldConfig(text_encoder=TextEncoderConfig(vocabulary=list(VOCABULARY)))
    for name in ("vae", "initial_dit", "dit", "text", "sampler", "opening"):
        if getattr(config, name) != getattr(TrainConfig(out=""), name):
            raise ValueError(f"{name}: expected none beside initial_world, whose own it is; leave it out")
    folder = world_folder(config.initial_world)
    world = read_world_config(folder)
    if world.text_encoder.kind != "tiny_vocabulary":
        raise ValueError(
            f"initial_world: expected a world that model.cli.train has made, got one with the text encoder "
            f"{world.text_encoder.kind!r}"
        )
    check_size(config.data.clips, world)
    parts: dict[str, Any] = {
        "vae": str(folder / "vae"),
        "initial_dit": str(folder / "dit"),
        "dit": load_config(folder / "dit", VideoDiTConfig),
        "text": TextConfig(dim=world.text_encoder.dim, num_tokens=world.text_encoder.num_tokens),
        "sampler": world.sampler,
        "opening": world.opening,
    }
    return dataclasses.replace(config, **parts), world


def check_size(clips: ClipSetConfig, world: WorldConfig) -> None:
    """Raises ValueError unless the clips look as the world's do."""
    for name in ("height", "width", "fps"):
        if getattr(clips, name) != getattr(world, name):
            raise ValueError(
                f"data.clips.{name}: expected {getattr(world, name)}, the world's, got {getattr(clips, name)}"
            )
