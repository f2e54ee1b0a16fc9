"""Makes a world of a published Wan-Fun-Control-Camera folder; its files are checked before they are read."""

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from model.device import usable_device
from model.dit.wan_fun import FRAMES_PER_LATENT, WanFunConfig, WanFunDiT
from model.pretrained.original_encoders import (
    check_image_encoder,
    check_text_encoder,
    load_image_encoder,
    load_text_encoder,
)
from model.pretrained.original_files import stored_tensors
from model.pretrained.original_vae import load_original_vae, original_vae_config
from model.pretrained.wan_fun import load_wan_fun, transformer_folders, wan_fun_config, weight_files
from model.text.umt5 import UMT5Encoder, load_tokenizer
from model.vae.video_vae import VideoVAE
from model.world.folder import folder_stamp, named_errors
from model.world.foreign_folder import contents_of
from model.world.open.clip_image_encoder import CLIPImageEncoder
from model.world.open.memory_need import check_memory, decoding_bytes, num_bytes
from model.world.open.offloaded_text_encoder import OffloadedTextEncoder
from model.world.open.wan_fun_config import WanFunWorldConfig, read_wan_fun_world_config
from model.world.open.wan_fun_world import MASK_CHANNELS, WanFunWorld

TOKENIZER = "google/umt5-xxl"
_PARTS = {
    "vae": ("Wan2.1_VAE", "Wan 2.1's VAE"),
    "text_encoder": ("models_t5_umt5-xxl-enc-bf16", "its UMT5 text encoder"),
    "image_encoder": ("models_clip_open-clip-xlm-roberta-large-vit-huge-14", "its CLIP image encoder"),
}
_LATENT_CHANNELS = 16


@dataclass(frozen=True)
class WanFunFiles:
    """A folder whose parts are all there and fit each other.

    Attributes:
        transformers: The folder of each; of two experts the one for high noise is the first.
        dit: Configuration of each.
        image_encoder: None if the transformer does not use it.
    """

    transformers: tuple[Path, ...]
    dit: WanFunConfig
    vae: Path
    text_encoder: Path
    image_encoder: Path | None


def load_wan_fun_world(
    folder: Path,
    device: str = "cpu",
    sampler_steps: int | None = None,
    guidance_text: float | None = None,
    metres_per_unit: float | None = None,
    offload: bool = False,
) -> WanFunWorld:
    """The world of a folder.

    Args:
        folder: As published: the transformer, `Wan2.1_VAE.pth`, UMT5 with its tokenizer, CLIP; nothing is downloaded.
        device: Where clips are made and states live.
        sampler_steps: Steps of each clip.
        guidance_text: Guidance weight of the prompt; 1: no guidance.
        metres_per_unit: See `WanFunWorldConfig`.
        offload: The transformer's blocks stay in the computer's memory and are copied to the device one by one, and the
            text encoder runs on the CPU: a small GPU can run a large model, more slowly.

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
    if offload and target.type == "cpu":
        raise ValueError("offload: expected false on the CPU, where all weights are already, got true; leave it out")
    with named_errors(folder):
        if config.boundary is not None and len(transformer_folders(folder)) == 1:
            raise ValueError(f"boundary: expected none, only two experts have one, got {config.boundary}; leave it out")
        networks = _networks(_Load(folder, target, offload, folder_stamp(folder), config))
    return WanFunWorld(*networks, config, target)


def memory_needs(files: WanFunFiles, config: WanFunWorldConfig, device: torch.device, offload: bool) -> dict[str, int]:
    """Bytes on the device for one environment, part by part; only headers are read.

    An encoder is on the device only while no solver step runs, and with offloading only one of two experts at a time;
    on the CPU all are there at once.
    """
    stored = [
        {name: tensor for file in weight_files(part) for name, tensor in stored_tensors(file).items()}
        for part in files.transformers
    ]
    dtype = _dtype(device) or stored[0]["patch_embedding.weight"].dtype
    offloaded = re.compile(r"blocks\.(?!0\.)") if offload else None
    transformers = [
        num_bytes([value for name, value in tensors.items() if not (offloaded and offloaded.match(name))], dtype)
        for tensors in stored
    ]
    image = []
    if files.image_encoder:
        image = [value for name, value in stored_tensors(files.image_encoder).items() if name.startswith("visual.")]
    text = [] if offload else list(stored_tensors(files.text_encoder).values())
    encoders = (num_bytes(image), num_bytes(text))
    num_latents = 1 + (config.num_frames - 1) // FRAMES_PER_LATENT
    work = max(
        transformer_activation_bytes(
            files.dit, num_latents * (config.height // 16) * (config.width // 16), dtype.itemsize
        ),
        decoding_bytes(original_vae_config(files.vae), config.height, config.width, 1, dtype.itemsize),
    )
    transformer = max(transformers) if offload else sum(transformers)
    needs = {"transformer": transformer, "VAE": num_bytes(stored_tensors(files.vae).values(), dtype)}
    if device.type == "cpu":
        return needs | {"encoders": sum(encoders), "work": work}
    return needs | {"an encoder, then work": max(*encoders, work)}


def transformer_activation_bytes(config: WanFunConfig, num_tokens: int, itemsize: int) -> int:
    """Bytes of a step's intermediate results: the larger of its attention's and its feed-forward layers'.

    Source: counted on this network (`tests/world/wan_fun/test_wan_fun_memory.py`).
    """
    return num_tokens * max(28 * config.width, 14 * config.width + 4 * config.ffn_dim) * itemsize // 2


def _dtype(device: torch.device) -> torch.dtype | None:
    """The type to read the transformer in; None: as stored, in bfloat16. CPUs without units for it are very slow."""
    return torch.float32 if device.type == "cpu" else None


@dataclass(frozen=True)
class _Load:
    """The key of loaded networks: they are read again for another stamp, but not for another configuration."""

    folder: Path
    device: torch.device
    offload: bool
    stamp: int
    config: WanFunWorldConfig = field(compare=False)


@lru_cache(maxsize=1)
def _networks(load: _Load) -> tuple[tuple[WanFunDiT, ...], VideoVAE, OffloadedTextEncoder, CLIPImageEncoder | None]:
    files = check_files(load.folder)
    smaller = "a smaller height and width in world.yaml"
    advice = f"try {smaller}" if load.offload or load.device.type == "cpu" else f"try offload=True, or {smaller}"
    check_memory(load.device, memory_needs(files, load.config, load.device, load.offload), advice)
    home = torch.device("cpu") if load.offload else load.device
    dits = tuple(load_wan_fun(part, files.dit, _dtype(load.device)).to(home) for part in files.transformers)
    text_encoder = UMT5Encoder(load_tokenizer(load.folder / TOKENIZER), load_text_encoder(files.text_encoder))
    picture_encoder = CLIPImageEncoder(load_image_encoder(files.image_encoder)) if files.image_encoder else None
    vae = load_original_vae(files.vae).requires_grad_(False)
    return dits, vae.to(load.device, dits[0].dtype), OffloadedTextEncoder(text_encoder, home), picture_encoder


def check_files(folder: Path) -> WanFunFiles:
    """The parts of a folder, after a check of the names and shapes in each; no weight is read.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part is damaged or another model's.
    """
    if contents := contents_of(folder):
        raise ValueError(f"expected a Wan-Fun-Control-Camera model, got {contents}")
    transformers = transformer_folders(folder)
    dit = _check_transformers(transformers)
    parts = {part: _part(folder, *names) for part, names in _PARTS.items() if part != "image_encoder" or dit.image_dim}
    if not (folder / TOKENIZER).is_dir():
        raise FileNotFoundError(
            f"expected the tokenizer in {folder / TOKENIZER}, found none; download it with the rest"
        )
    _check_fit("vae", parts["vae"], _LATENT_CHANNELS, original_vae_config(parts["vae"]).latent_channels)
    _check_fit("text_encoder", parts["text_encoder"], dit.text_dim, check_text_encoder(parts["text_encoder"]))
    image_encoder = parts.get("image_encoder")
    if image_encoder:
        _check_fit("image_encoder", image_encoder, dit.image_dim, check_image_encoder(image_encoder))
    return WanFunFiles(transformers, dit, parts["vae"], parts["text_encoder"], image_encoder)


def _check_transformers(folders: tuple[Path, ...]) -> WanFunConfig:
    """The shape of a model's transformers: one in V1.1, two experts in Wan 2.2 A14B."""
    dit, *others = (wan_fun_config(folder) for folder in folders)
    if any(other != dit for other in others):
        raise ValueError(f"expected two experts of one shape, got {dit} and {others[0]}; download both of one model")
    masked = 2 * _LATENT_CHANNELS + MASK_CHANNELS
    if others and (dit.in_channels != masked or dit.image_dim):
        raise ValueError(
            f"expected experts of {masked} input channels that read no picture's tokens, as of Wan 2.2 A14B, got ones "
            f"of {dit.in_channels}{' that read them' if dit.image_dim else ''}; use Wan2.2-Fun-A14B-Control-Camera"
        )
    if not others and (dit.in_channels != 2 * _LATENT_CHANNELS or not dit.image_dim):
        raise ValueError(
            f"expected a transformer of 32 input channels that reads a picture's tokens, as of V1.1, got one of "
            f"{dit.in_channels}{'' if dit.image_dim else ' without them'}; Wan 2.2's A14B flies, with both its experts"
        )
    return dit


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
