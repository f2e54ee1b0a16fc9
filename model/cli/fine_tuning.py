"""Where a training of the DiT starts: from nothing, from weights, or (fine-tuning) from a world that is trained."""

import dataclasses
from typing import Any

from model.build import TextConfig, TrainConfig
from model.checkpoint import load_config
from model.data.clips import ClipSetConfig
from model.data.synthetic.captions import VOCABULARY
from model.dit.video_dit import VideoDiTConfig
from model.world.config import DEFAULT_SAMPLER, TextEncoderConfig, WorldConfig, read_world_config
from model.world.folder import world_fingerprint, world_folder


def starting_point(config: TrainConfig) -> tuple[TrainConfig, WorldConfig]:
    """The settings with the paths and sizes of the initial world, if there is one; and the world that is begun with.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: A setting is the initial world's own, or nothing says what to train.
    """
    if config.initial_world is None:
        if config.initial_sampler is not None:
            raise ValueError(f"initial_sampler: expected none without initial_world, got {config.initial_sampler!r}")
        if config.vae is None:
            raise ValueError("vae: expected the folder of a trained VAE, got none; name one, or initial_world=tiny")
        return config, WorldConfig(text_encoder=TextEncoderConfig(vocabulary=list(VOCABULARY)))
    unset = TrainConfig(out="")
    for name in ("vae", "initial_dit", "dit", "text"):
        if getattr(config, name) != getattr(unset, name):
            raise ValueError(f"{name}: expected none beside initial_world, whose own it is; leave it out")
    folder = world_folder(config.initial_world)
    parent = read_world_config(folder)
    if parent.text_encoder.kind != "tiny_vocabulary":
        raise ValueError(
            f"initial_world: expected a world that model.cli.train has made, got one with the text encoder "
            f"{parent.text_encoder.kind!r}"
        )
    named, clips = parent.sampler_named(config.initial_sampler), config.data.clips
    world = dataclasses.replace(
        parent,
        height=clips.height,
        width=clips.width,
        sampler=named.sampler if config.sampler == unset.sampler else config.sampler,
        opening=named.opening if config.opening == unset.opening else config.opening,
        samplers={},
    )
    check_size(clips, world)
    if (world.height, world.width) != (parent.height, parent.width):
        print(
            f"{config.initial_world} goes on at {world.height}x{world.width} in place of {parent.height}x"
            f"{parent.width}: positions are interpolated"
        )
    parts: dict[str, Any] = {
        "vae": str(folder / "vae"),
        "initial_dit": str(folder / named.dit),
        "dit": at_size(load_config(folder / named.dit, VideoDiTConfig), parent, world),
        "text": TextConfig(dim=world.text_encoder.dim, num_tokens=world.text_encoder.num_tokens),
        "sampler": world.sampler,
        "opening": world.opening,
    }
    return dataclasses.replace(config, **parts), world


def at_size(dit: VideoDiTConfig, trained: WorldConfig, wanted: WorldConfig) -> VideoDiTConfig:
    """The network of a world, for another height and width: a token keeps its place in the picture.

    Rows and columns of the finer (or coarser) grid are interpolated by the ratio of the two grids.
    """
    frames, rows, columns = dit.rope_scale
    scale = [frames, rows * trained.height / wanted.height, columns * trained.width / wanted.width]
    return dataclasses.replace(dit, rope_scale=scale)


def parent_of(config: TrainConfig) -> dict[str, Any] | None:
    """What a trained world's record says of its initial world; None without one."""
    if config.initial_world is None:
        return None
    folder = world_folder(config.initial_world)
    world = read_world_config(folder)
    return {
        "world": config.initial_world,
        "sampler": config.initial_sampler or DEFAULT_SAMPLER,
        "fingerprint": world_fingerprint(folder),
        "height": world.height,
        "width": world.width,
    }


def check_size(clips: ClipSetConfig, world: WorldConfig) -> None:
    """Raises ValueError unless the clips look as the world's do."""
    for name in ("height", "width", "fps"):
        if getattr(clips, name) != getattr(world, name):
            raise ValueError(
                f"data.clips.{name}: expected {getattr(world, name)}, the world's, got {getattr(clips, name)}"
            )
