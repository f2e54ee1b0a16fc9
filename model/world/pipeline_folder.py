"""Checks a pipeline in diffusers' layout by its headers, before any weight is read."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.pretrained import wan
from model.pretrained.diffusers_folder import check_shards, read_config
from model.pretrained.original_files import stored_tensors
from model.pretrained.wan_dit import CAMERA_NAME, dit_config_from_diffusers
from model.text.umt5 import umt5_dtype
from model.world.config import WorldConfig
from model.world.foreign_folder import contents_of_weights
from model.world.open.memory_need import check_memory, decoding_bytes, num_bytes


def check_pipeline_folder(folder: Path, config: WorldConfig, device: torch.device) -> None:
    """Raises if a pipeline cannot be loaded, or its transformer follows no camera.

    Args:
        folder: Of the pipeline.
        config: Its settings, which say where the text encoder is.
        device: Where all its networks will be.

    Raises:
        FileNotFoundError: A file of weights is missing.
        ValueError: A part is quantised, a LoRA or another model's, the camera was never trained, or the device has too
            little memory for the weights.
    """
    wan.check_pipeline(folder)
    for part in ("transformer", "vae"):
        if contents := contents_of_weights(folder / part):
            raise ValueError(f"expected a pipeline of Wan, {part} holds {contents}")
        check_shards(folder / part)
    dit = dit_config_from_diffusers(read_config(folder / "transformer"))
    if dit.in_channels != dit.out_channels:
        raise ValueError(
            f"expected a transformer that reads latents alone, got one of {dit.in_channels} input and "
            f"{dit.out_channels} output channels, which reads a picture or a control film too; use text-to-video"
        )
    vae = wan.config_from_diffusers(read_config(folder / "vae"))
    if vae.latent_channels != dit.in_channels:
        raise ValueError(
            f"vae: expected {dit.in_channels} latent channels like the transformer's, got {vae.latent_channels}; "
            "use the VAE of the same model"
        )
    transformer = dict(_stored(folder / "transformer"))
    if CAMERA_NAME not in transformer:
        raise ValueError(
            "expected a transformer that follows a camera, got one without a trained camera, which ignores the path; "
            f"train it with python -m model.cli.train experiment=wan_lora base={folder} (or wan_phase1; "
            "model/training/README.md), or choose a model of model/pretrained/camera_models.md"
        )
    dtype = torch.float32 if device.type == "cpu" else None
    needs = {
        "transformer": num_bytes(transformer.values(), dtype),
        "VAE": num_bytes((tensor for _, tensor in _stored(folder / "vae")), torch.float32),
    }
    text = 0
    if config.text_encoder.kind == "umt5":
        stored = _stored(folder / config.text_encoder.folder / "text_encoder")
        text = num_bytes((tensor for _, tensor in stored), umt5_dtype(device))
    work = decoding_bytes(vae, config.height, config.width, config.poses_per_clip, torch.float32.itemsize)
    if device.type == "cpu":
        needs |= {"text encoder": text, "decoding": work}
    else:
        needs["text encoder, then decoding"] = max(text, work)
    check_memory(device, needs, "try a larger device, a smaller picture in world.yaml, or a smaller model")


def _stored(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and shapes of a part's tensors; no weight is read."""
    for file in sorted(folder.glob("*.safetensors")):
        yield from stored_tensors(file).items()
