"""Where a training of the DiT starts: from random weights, stored ones, a trained world, or an open base."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.build import TextConfig, TrainConfig, require_component
from model.checkpoint import load_component, load_config, load_meta, load_weights
from model.data.clips import ClipSetConfig
from model.data.synthetic.captions import VOCABULARY
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.fingerprint import fingerprint
from model.pretrained.diffusers_folder import read_config
from model.pretrained.wan import check_base
from model.pretrained.wan_dit import dit_config_from_diffusers
from model.training.lora import add_lora
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import DEFAULT_SAMPLER, TextEncoderConfig, WorldConfig, read_world_config
from model.world.folder import world_fingerprint, world_folder
from model.world.networks import read_dit, read_vae, read_world


def starting_point(config: TrainConfig) -> tuple[TrainConfig, WorldConfig]:
    """The settings with the paths and sizes of the initial world, if there is one; and the world to start with.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: A setting is given that the initial world fixes, or nothing says what to train.
    """
    if config.initial_world is None and config.initial_sampler is not None:
        raise ValueError(f"initial_sampler: expected none without initial_world, got {config.initial_sampler!r}")
    if config.base is not None:
        return start_from_base(config)
    if config.initial_world is None:
        if config.vae is None:
            raise ValueError("vae: expected the folder of a trained VAE, got none; name one, or initial_world=tiny")
        return config, WorldConfig(text_encoder=TextEncoderConfig(vocabulary=list(VOCABULARY)))
    unset = TrainConfig(out="")
    check_unset(config, "initial_world", ("vae", "initial_dit", "dit", "text"))
    folder = world_folder(config.initial_world)
    parent = read_world_config(folder)
    if parent.text_encoder.kind != "tiny_vocabulary":
        raise ValueError(
            f"initial_world: expected a world with a vocabulary of its own, got one with the text encoder "
            f"{parent.text_encoder.kind!r}; a world that rests on an open base goes on with base=FOLDER"
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


def start_from_base(config: TrainConfig) -> tuple[TrainConfig, WorldConfig]:
    """The settings with the network of the open base; and its world, at the size and rate of the clips.

    Raises:
        FileNotFoundError: There is no such folder, or one of its files is missing.
        ValueError: A setting is given that the base fixes, or the folder holds no base that is covered.
    """
    assert config.base is not None
    check_unset(config, "base", ("vae", "initial_dit", "initial_world", "dit", "text"))
    folder, clips = check_base(config.base), config.data.clips
    stored = read_world(folder)
    dit = dit_config_from_diffusers(read_config(folder / "transformer"))
    text_folder = str((folder / stored.text_encoder.folder).resolve())
    text_encoder = dataclasses.replace(stored.text_encoder, dim=dit.text_dim, folder=text_folder)
    world = dataclasses.replace(
        stored, height=clips.height, width=clips.width, fps=clips.fps, text_encoder=text_encoder
    )
    text = TextConfig(dim=text_encoder.dim, num_tokens=text_encoder.num_tokens)
    return dataclasses.replace(config, dit=dit, text=text), world


def check_unset(config: TrainConfig, beside: str, names: Sequence[str]) -> None:
    """Raises ValueError for settings that another setting fixes."""
    unset = TrainConfig(out="")
    for name in names:
        if getattr(config, name) != getattr(unset, name):
            raise ValueError(f"{name}: expected none beside {beside}, whose own it is; leave it out")


def starting_vae(config: TrainConfig) -> tuple[VideoVAE, dict[str, Any]]:
    """The VAE to train on, and its record."""
    if config.base is not None:
        return read_vae(Path(config.base)), {}
    folder = require_component("vae", str(config.vae))
    return load_component(folder, VideoVAEConfig, VideoVAE), load_meta(folder)


def starting_dit(config: TrainConfig) -> VideoDiT:
    """The network to train: random, from weights, or the open base's; with adapters, if the settings say so.

    A base is as it is stored, and mapped from its files.
    """
    if config.base is not None:
        dit = read_dit(Path(config.base), dtype=None)
    else:
        dit = VideoDiT(config.dit)
        if config.initial_dit is not None:
            load_weights(require_component("initial_dit", config.initial_dit), dit)
    dit.gradient_checkpointing = config.gradient_checkpointing
    return add_lora(dit, config.lora) if config.lora.rank else dit


def frozen_base(config: TrainConfig) -> dict[str, str]:
    """A fingerprint of the base whose matrices are frozen, since adapters fit no other; nothing without adapters.

    Raises:
        ValueError: There is no base to add adapters to.
    """
    if not config.lora.rank:
        return {}
    if config.base is None:
        raise ValueError(f"lora.rank: expected 0 without base, got {config.lora.rank}; name a base, or train in full")
    return {"base": fingerprint(*sorted((Path(config.base) / "transformer").glob("*.safetensors")))[:12]}


def at_size(dit: VideoDiTConfig, trained: WorldConfig, wanted: WorldConfig) -> VideoDiTConfig:
    """The network of a world, for another height and width: a token keeps its place in the picture.

    Rows and columns of the finer (or coarser) grid are interpolated by the ratio of the two grids.
    """
    frames, rows, columns = dit.rope_scale
    scale = [frames, rows * trained.height / wanted.height, columns * trained.width / wanted.width]
    return dataclasses.replace(dit, rope_scale=scale)


def parent_of(config: TrainConfig) -> dict[str, Any] | None:
    """What a trained world's record says of its initial world or open base; None without one."""
    if config.base is not None:
        return {"base": config.base}
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
    """Raises ValueError unless the clips have the world's size and frame rate."""
    for name in ("height", "width", "fps"):
        if getattr(clips, name) != getattr(world, name):
            raise ValueError(
                f"data.clips.{name}: expected {getattr(world, name)}, the world's, got {getattr(clips, name)}"
            )
