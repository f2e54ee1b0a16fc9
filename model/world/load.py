"""A world by name or folder: shipped, rendered or registered, a folder of ours, or a downloaded Wan pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import component_exists, copy_component, load_component, load_meta, read_unmixed, save_component
from model.data.synthetic.themes import known_style
from model.device import usable_device
from model.dit.video_dit import VideoDiT
from model.text.encoder import TextEncoder
from model.text.tiny_vocabulary import TinyVocabularyEncoder
from model.text.umt5 import load_umt5, umt5_dtype
from model.training.latent_set import encoder_fingerprint
from model.vae.latent_depth import LatentDepth, LatentDepthConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.acceleration import accelerated, check_acceleration
from model.world.camera_world import CameraWorld
from model.world.config import (
    DEFAULT_SAMPLER,
    NamedSamplerConfig,
    TextEncoderConfig,
    WorldConfig,
    read_world_config,
    world_kind,
    write_world_config,
)
from model.world.folder import folder_stamp, named_errors, world_folder
from model.world.foreign_folder import contents_of, open_kind
from model.world.free_space import SolidCameraWorld
from model.world.networks import is_wan, is_world, read_dit, read_vae, read_world
from model.world.open.minwm_folder import load_minwm_world
from model.world.open.offloaded_text_encoder import OffloadedTextEncoder
from model.world.open.wan_fun_folder import load_wan_fun_world
from model.world.options import WorldOptions
from model.world.pipeline_folder import check_pipeline_folder
from model.world.protocol import WorldModel
from model.world.registry import WorldFactory, build_world, checked_world, world_factory, world_names
from model.world.synthetic_world import SyntheticWorld

_OPEN_MODELS: dict[str, WorldFactory] = {  # the keys are what `open_kind` returns
    "minwm": load_minwm_world,
    "wan_fun": load_wan_fun_world,
}
DEPTH_FOLDER = "depth"  # in a world's folder: its depth head, if it has one (`python -m model.cli.train_depth`)


@dataclass(frozen=True)
class _Components:
    config: WorldConfig
    vae: VideoVAE
    text_encoder: TextEncoder
    depth: LatentDepth | None


def load_world(world: str | Path | WorldModel = "tiny", options: WorldOptions | None = None) -> WorldModel:
    """The world of this name or folder. Weights are read once per process and shared by worlds with other options.

    Args:
        world: `tiny`, `synthetic`, a name that `model.world.registry` knows, or a folder: one that `save_world` wrote,
            one in the layout of diffusers' Wan pipelines whose camera is trained (`transformer/ vae/ text_encoder/
            tokenizer/`, with a `world.yaml` for settings other than the defaults), or one whose `world.yaml` has a
            registered name as `kind`. A world that is already built is returned as it is.
        options: Where it runs and how it samples.

    Raises:
        FileNotFoundError: if the folder or one of its files is missing.
        ValueError: for an unknown name, damaged files, an option out of range or one without effect.
    """
    options = options or WorldOptions()
    check_acceleration(usable_device(options.device), options.compile_backend, options.cuda_graphs)
    settings = _given(options)
    if not isinstance(world, str | Path):
        if settings:
            name = next(iter(settings))
            raise ValueError(
                f"{name}: expected the default beside a world that is already built, got {getattr(options, name)!r}; "
                "build the world with it"
            )
        return checked_world(world)
    factory = _synthetic if world == "synthetic" else world_factory(str(world))
    if factory is not None:
        return build_world(str(world), factory, settings)
    folder = world_folder(world)
    with named_errors(folder):
        kind = world_kind(folder)
        if kind is None and not is_world(folder):
            if contents := contents_of(folder):
                raise ValueError(f"expected a world, got {contents}")
            kind = open_kind(folder)
            if kind is None:
                read_world(folder)  # raises; `folder_stamp` would look through this folder, which may be large
    if kind is not None:
        factory = _OPEN_MODELS.get(kind) or world_factory(kind)
        if factory is None:
            raise ValueError(
                f"world: expected a kind that is registered, of {world_names()}, got {kind!r} in {folder}; install or "
                "import the package that registers it"
            )
        return build_world(kind, factory, settings, folder, folder_stamp(folder))
    _refuse_others_options(options, world)
    key = (folder, options.device, folder_stamp(folder))
    parts = _load_folder(*key)
    config = sampled_config(parts.config, options)
    dit, vae = _load_dit(*key, parts.config.sampler_named(options.sampler).dit), parts.vae
    if options.compile_backend is not None or options.cuda_graphs:
        dit, vae = accelerated(dit, vae, options.compile_backend, bool(options.cuda_graphs))
    return assemble_world(dit, vae, parts.text_encoder, config, parts.depth)


def _refuse_others_options(options: WorldOptions, world: object) -> None:
    """Raises for an option that our own networks do not have."""
    for name, whose in (
        ("style", "world='synthetic'"),
        ("metres_per_unit", "an open model"),
        ("offload", "an open model"),
    ):
        if (value := getattr(options, name)) is not None:
            raise ValueError(f"{name}: expected none, only {whose} has one, got {value!r} for {world}; leave it out")


def _synthetic(style: str = "soft") -> WorldModel:
    return SyntheticWorld(style=known_style(style))


def assemble_world(
    dit: VideoDiT, vae: VideoVAE, text_encoder: TextEncoder, config: WorldConfig, depth: LatentDepth | None = None
) -> CameraWorld:
    """The world of these networks; with a depth head it knows its free space.

    Raises:
        ValueError: if they do not fit each other.
    """
    arguments: dict[str, Any] = {
        "sampler": config.sampler,
        "opening": config.opening,
        "context_latents": config.context_latents,
        "memory_latents": config.memory_latents,
        "memory_capacity": config.memory_capacity,
        "default_prompts": config.default_prompts,
        "familiar_psnr": config.familiar_psnr,
    }
    if depth is None:
        return CameraWorld(dit, vae, text_encoder, config.spec(), **arguments)
    return SolidCameraWorld(dit, vae, text_encoder, config.spec(), depth=depth, **arguments)


def save_world(
    folder: str | Path,
    dit: VideoDiT,
    vae: VideoVAE,
    config: WorldConfig,
    *,
    meta: Mapping[str, Any] | None = None,
    vae_meta: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = torch.float16,
) -> None:
    """Writes a folder that `load_world` reads: `dit/`, `vae/` (each atomically), then `world.yaml`.

    Args:
        folder: Where to write; parents are created.
        dit: Its weights and configuration.
        vae: Likewise.
        config: Everything else; a UMT5 encoder's own files are not copied.
        meta: Anything JSON can hold, kept beside the DiT.
        vae_meta: Likewise, beside the VAE.
        dtype: Type of the stored weights; None keeps their own.
    """
    folder = Path(folder)
    save_component(folder / "dit", dit, dit.config, dict(meta or {}), dtype)
    save_component(folder / "vae", vae, vae.config, dict(vae_meta or {}), dtype)
    write_world_config(folder, config)


def join_worlds(folder: str | Path, worlds: Mapping[str, str | Path]) -> Path:
    """Joins worlds that differ only in DiT and samplers into one: `default`, and the others as named samplers.

    Raises:
        ValueError: There is no `default`, or a world has another VAE.
    """
    if DEFAULT_SAMPLER not in worlds:
        raise ValueError(f"samplers: expected one that is {DEFAULT_SAMPLER!r}, got {list(worlds)}; name it")
    folder, default = Path(folder), Path(worlds[DEFAULT_SAMPLER])
    config, vae = read_world_config(default), load_component(default / "vae", VideoVAEConfig, VideoVAE)
    samplers = {}
    for name, other in worlds.items():
        if not _is_same(vae, load_component(Path(other) / "vae", VideoVAEConfig, VideoVAE)):
            raise ValueError(f"samplers: expected worlds with one VAE, {name!r} has another than {DEFAULT_SAMPLER!r}")
        if name != DEFAULT_SAMPLER:
            own = read_world_config(Path(other))
            samplers[name] = NamedSamplerConfig(dit=name, sampler=own.sampler, opening=own.opening)
            copy_component(Path(other) / "dit", folder / name)
    for component in ("dit", "vae", DEPTH_FOLDER):
        if component_exists(default / component):
            copy_component(default / component, folder / component)
    write_world_config(folder, replace(config, samplers=samplers))
    return folder


def copy_world(folder: str | Path, source: Path, options: WorldOptions) -> Path:
    """Writes a copy of a world with one sampler, its default: the one that the options name, with their changes.

    Raises:
        ValueError: There is no such sampler, or an option is out of range.
    """
    folder, config = Path(folder), read_world_config(source)
    copy_component(source / config.sampler_named(options.sampler).dit, folder / "dit")
    for component in ("vae", DEPTH_FOLDER):
        if component_exists(source / component):
            copy_component(source / component, folder / component)
    write_world_config(folder, replace(sampled_config(config, options), samplers={}))
    return folder


def _is_same(one: VideoVAE, other: VideoVAE) -> bool:
    """Whether two VAEs are the same up to the rounding of 16 bits."""
    tensors, others = one.state_dict(), other.state_dict()
    return one.config == other.config and all(
        torch.allclose(tensor, others[name], rtol=1e-3, atol=1e-6) for name, tensor in tensors.items()
    )


def build_text_encoder(config: TextEncoderConfig, folder: Path, device: str = "cpu") -> TextEncoder:
    """The text encoder that a world's configuration names; `folder` is the world's."""
    if config.kind == "umt5":
        return load_umt5(folder / config.folder, config.num_tokens, device, umt5_dtype(torch.device(device)))
    return TinyVocabularyEncoder(config.vocabulary, config.dim, config.num_tokens)


def _text_encoder(config: TextEncoderConfig, folder: Path, device: torch.device) -> TextEncoder:
    """The text encoder of a world that is flown: on a GPU a large one is there only while it embeds."""
    if config.kind != "umt5" or device.type == "cpu":
        return build_text_encoder(config, folder)
    encoder = load_umt5(folder / config.folder, config.num_tokens, "cpu", umt5_dtype(device))
    return OffloadedTextEncoder(encoder, device)


@lru_cache(maxsize=2)
def _load_folder(folder: Path, device: str, stamp: int) -> _Components:
    """All of a folder except the DiT, since samplers may have their own; the stamp is only part of the cache's key."""
    with named_errors(folder):
        config = read_world(folder)
        if is_wan(folder):
            check_pipeline_folder(folder, config, torch.device(device))
        vae = read_vae(folder)
        text_encoder = _text_encoder(config.text_encoder, folder, torch.device(device))
        depth = _load_depth(folder / DEPTH_FOLDER, vae)
    for network in (vae, *([] if depth is None else [depth])):
        network.requires_grad_(False).eval().to(device)
    if torch.device(device).type == "cuda":
        vae.use_channels_last()
    return _Components(config, vae, text_encoder, depth)


@lru_cache(maxsize=4)
def _load_dit(folder: Path, device: str, stamp: int, name: str) -> VideoDiT:
    """The DiT in the subfolder `name`, or a Wan pipeline's."""
    with named_errors(folder):
        # weights are stored in bfloat16 for accelerators; CPUs without units for it are very slow
        dit = read_dit(folder, name, torch.float32 if torch.device(device).type == "cpu" else None)
    return dit.requires_grad_(False).eval().to(device)


def _load_depth(folder: Path, vae: VideoVAE) -> LatentDepth | None:
    """The depth head, if there is one and it was trained on latents of this very encoder: it cannot read others."""

    def read() -> LatentDepth | None:
        if not component_exists(folder) or load_meta(folder).get("latents") != encoder_fingerprint(vae):
            return None
        return load_component(folder, LatentDepthConfig, LatentDepth)

    return read_unmixed(folder, read)


def _given(options: WorldOptions) -> dict[str, Any]:
    """The options that are not at their defaults."""
    given = {field.name: value for field in fields(WorldOptions) if (value := getattr(options, field.name)) is not None}
    if torch.device(given["device"]).type == "cpu":
        del given["device"]
    return given


def sampled_config(config: WorldConfig, options: WorldOptions) -> WorldConfig:
    """The world's settings, changed to sample as the options say.

    Raises:
        ValueError: It has no such sampler, or an option is out of range.
    """
    settings = _given(options)
    names = {"sampler_steps": "num_steps", "guidance_text": "guidance_text", "guidance_camera": "guidance_camera"}
    changes = {names[name]: value for name, value in settings.items() if name in names}
    named = config.sampler_named(options.sampler)
    memory_latents = settings.get("memory_latents", config.memory_latents)
    sampler = replace(named.sampler, **changes)
    return replace(config, sampler=sampler, opening=named.opening, memory_latents=memory_latents)
