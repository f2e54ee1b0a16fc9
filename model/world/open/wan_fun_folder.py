"""A Wan-Fun-Control-Camera folder as published, to a world: its files are looked at first, and then read."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from model.device import usable_device
from model.dit.wan_fun import WanFunConfig, WanFunDiT
from model.pretrained.original_encoders import (
    check_image_encoder,
    check_text_encoder,
    load_image_encoder,
    load_text_encoder,
)
from model.pretrained.original_vae import load_original_vae, original_vae_config
from model.pretrained.wan_fun import load_wan_fun, wan_fun_config
from model.text.umt5 import UMT5Encoder, load_tokenizer
from model.vae.video_vae import VideoVAE
from model.world.folder import folder_stamp, named_errors
from model.world.foreign_folder import contents_of
from model.world.open.clip_picture import PictureEncoder
from model.world.open.wan_fun_config import read_wan_fun_world_config
from model.world.open.wan_fun_world import WanFunWorld

TOKENIZER = "google/umt5-xxl"
_PARTS = {
    "vae": ("Wan2.1_VAE", "Wan 2.1's VAE"),
    "text_encoder": ("models_t5_umt5-xxl-enc-bf16", "its UMT5 text encoder"),
    "image_encoder": ("models_clip_open-clip-xlm-roberta-large-vit-huge-14", "its CLIP image encoder"),
}
_LATENT_CHANNELS = 16


@dataclass(frozen=True)
class WanFunFiles:
    """A folder whose parts are all there and fit each other."""

    folder: Path
    dit: WanFunConfig
    vae: Path
    text_encoder: Path
    image_encoder: Path


def load_wan_fun_world(
    folder: Path,
    device: str = "cpu",
    sampler_steps: int | None = None,
    guidance_text: float | None = None,
    metres_per_unit: float | None = None,
) -> WanFunWorld:
    """The world of a folder.

    Args:
        folder: As published: the transformer, `Wan2.1_VAE.pth`, UMT5 with its tokenizer, CLIP; nothing is downloaded.
        device: Where clips are made and states live.
        sampler_steps: Steps of each clip.
        guidance_text: Weight of the prompt; 1 is none.
        metres_per_unit: See `WanFunWorldConfig`.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part is another model's, or an option is out of range.
    """
    target = usable_device(device)
    config = read_wan_fun_world_config(folder)
    given: dict[str, Any] = {
        "num_steps": sampler_steps,
        "guidance_text": guidance_text,
        "metres_per_unit": metres_per_unit,
    }
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    with named_errors(folder):
        networks = _networks(folder, target, folder_stamp(folder))
    return WanFunWorld(*networks, config, target)


@lru_cache(maxsize=1)
def _networks(
    folder: Path, device: torch.device, stamp: int
) -> tuple[WanFunDiT, VideoVAE, UMT5Encoder, PictureEncoder]:
    """One copy for worlds of other options; the stamp is for the cache's key only."""
    files = look_at(folder)
    # CPUs without bfloat16 units would crawl in what is stored
    dit = load_wan_fun(folder, files.dit, torch.float32 if device.type == "cpu" else None)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    text_encoder = UMT5Encoder(tokenizer, load_text_encoder(files.text_encoder))
    picture_encoder = PictureEncoder(load_image_encoder(files.image_encoder))
    vae = load_original_vae(files.vae).requires_grad_(False).to(device)
    return dit.to(device), vae, text_encoder, picture_encoder


def look_at(folder: Path) -> WanFunFiles:
    """The parts of a folder, after a look at the names and shapes in each; no number is read.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part is damaged or another model's.
    """
    if contents := contents_of(folder):
        raise ValueError(f"expected a Wan-Fun-Control-Camera model, got {contents}")
    parts = {part: _part(folder, *names) for part, names in _PARTS.items()}
    if not (folder / TOKENIZER).is_dir():
        raise FileNotFoundError(
            f"expected the tokenizer in {folder / TOKENIZER}, found none; download it with the rest"
        )
    dit = wan_fun_config(folder)
    _check_fit("vae", parts["vae"], _LATENT_CHANNELS, original_vae_config(parts["vae"]).latent_channels)
    _check_fit("text_encoder", parts["text_encoder"], dit.text_dim, check_text_encoder(parts["text_encoder"]))
    _check_fit("image_encoder", parts["image_encoder"], dit.image_dim, check_image_encoder(parts["image_encoder"]))
    return WanFunFiles(folder, dit, **parts)


def _part(folder: Path, stem: str, contents: str) -> Path:
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise FileNotFoundError(f"expected {contents}, {stem}.pth or .safetensors, in {folder}, found none; download it")


def _check_fit(part: str, path: Path, expected: int, got: int) -> None:
    if expected != got:
        raise ValueError(
            f"{path}: expected a {part} of width {expected}, as the transformer's, got {got}; take its own"
        )
