"""The networks of a world's folder, in our layout (`dit/ vae/`) or in that of diffusers' Wan pipelines."""

from pathlib import Path

import torch
from torch import nn

from model.checkpoint import load_component
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.fingerprint import fingerprint_number
from model.pretrained import wan
from model.pretrained.diffusers_folder import read_config
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import WORLD_FILE, WorldConfig, read_world_config, wan_config, write_world_config
from model.world.protocol import WorldSpec

_SAMPLES = 16  # weights of each tensor that enter a fingerprint


def is_wan(folder: Path) -> bool:
    """Whether a folder has the layout of diffusers' Wan pipelines."""
    return (folder / "transformer").is_dir()


def is_world(folder: Path) -> bool:
    """Whether a folder has one of our two layouts, judged by what each must contain."""
    return is_wan(folder) or (folder / WORLD_FILE).is_file()


def read_world(folder: Path) -> WorldConfig:
    """The settings of a world's folder; a downloaded pipeline without a `world.yaml` has Wan's defaults.

    Raises:
        FileNotFoundError: There is no `world.yaml` in a folder of our layout.
        ValueError: It is damaged, or the pipeline has two transformers.
    """
    if not is_wan(folder):
        return read_world_config(folder)
    wan.check_pipeline(folder)
    if (folder / WORLD_FILE).is_file():
        return read_world_config(folder)
    return wan_config(is_wan22=wan.config_from_diffusers(read_config(folder / "vae")).is_residual)


def read_vae(folder: Path) -> VideoVAE:
    """The folder's VAE, in float32. Raises as `load_component` and `wan.load_vae`."""
    if is_wan(folder):
        return wan.load_vae(folder / "vae")
    return load_component(folder / "vae", VideoVAEConfig, VideoVAE)


def read_dit(folder: Path, component: str = "dit", dtype: torch.dtype | None = torch.float32) -> VideoDiT:
    """The folder's DiT, or that of one of its samplers (`component`); in our layout it is always read in float32.

    Args:
        folder: A world's folder.
        component: The DiT's folder in it; a pipeline has one transformer.
        dtype: Of a pipeline's weights; None keeps the stored type.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: As `load_component` and `wan.load_dit`.
    """
    if is_wan(folder):
        return wan.load_dit(folder / "transformer", dtype)
    return load_component(folder / component, VideoDiTConfig, VideoDiT)


def save_wan_world(folder: Path, dit: VideoDiT, vae: VideoVAE, config: WorldConfig) -> None:
    """Writes a world in the layout of diffusers' Wan pipelines, which `load_world` and diffusers read.

    The DiT is stored in bfloat16, as Wan's own is; the VAE is not trained, so it is written only once. The text encoder
    is not copied: `config.text_encoder` says where it is.

    Raises:
        ValueError: diffusers has no setting for this network (`wan.save_dit`).
    """
    wan.save_dit(dit, folder / "transformer", dtype=torch.bfloat16)
    if not (folder / "vae").is_dir():
        wan.save_vae(vae, folder / "vae")
    write_world_config(folder, config)


def networks_fingerprint(spec: WorldSpec, *networks: nn.Module) -> int:
    """A fingerprint of a world's sizes and of some weights of each layer: all would take long in a large world."""
    sizes = (spec.height, spec.width, float(spec.fps), spec.frames_per_clip, spec.poses_per_clip)
    some = [
        weights.detach().flatten()[:: max(1, weights.numel() // _SAMPLES)].float()
        for network in networks
        for weights in network.parameters()
    ]
    return fingerprint_number(repr(sizes).encode(), torch.cat(some).cpu().numpy().tobytes())
