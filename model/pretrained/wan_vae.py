"""Loads and saves Wan 2.1's and 2.2's VAEs in diffusers' folder format (class AutoencoderKLWan) as `VideoVAE`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import fill
from model.pretrained.diffusers_folder import iterate_tensors, read_config, write_folder
from model.vae.video_vae import VideoVAE, VideoVAEConfig

# diffusers' names of the leaves of our blocks, theirs -> ours
_BLOCK = {"norm1.gamma": "norm1.weight", "norm2.gamma": "norm2.weight", "conv_shortcut": "shortcut"}
_RESAMPLE = {"resample.1": "space", "time_conv": "time"}
_ATTENTION = {"norm.gamma": "norm.weight", "to_qkv": "qkv", "proj": "out"}
_CODER = {"norm_out.gamma": "norm_out.weight"}
_CLASS_NAME = "AutoencoderKLWan"
# What diffusers assumes where config.json leaves the latents' statistics out: those of Wan 2.1.
WAN_LATENTS_MEAN = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
                 0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921]  # fmt: skip
WAN_LATENTS_STD = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160]  # fmt: skip


def load_vae(folder: str | Path) -> VideoVAE:
    """The VAE of a diffusers folder, in float32 on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: config.json or weights are missing.
        ValueError: a file is damaged, or it is not a VAE of Wan's kind.
    """
    config = config_from_diffusers(read_config(folder))
    with torch.device("meta"):
        vae = VideoVAE(config)
    ours = {theirs: name for name, theirs in _name_pairs(config)}
    shapes = {name: value.shape for name, value in vae.state_dict().items()}

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for theirs, tensor in iterate_tensors(folder):
            name = ours.get(theirs, theirs)
            yield name, _reshape_if_same_size(tensor, shapes.get(name, tensor.shape))

    fill(vae, renamed(), dtype=torch.float32)
    return vae.eval()


def save_vae(vae: VideoVAE, folder: str | Path) -> None:
    """Writes a folder that `diffusers.AutoencoderKLWan.from_pretrained` reads.

    Raises:
        ValueError: the configuration has parts that Wan's VAEs lack.
    """
    config = config_to_diffusers(vae.config)
    state = vae.state_dict()
    tensors = (
        (theirs, state[name].reshape(_their_shape(theirs, state[name]))) for name, theirs in _name_pairs(vae.config)
    )
    write_folder(folder, config, tensors)


def config_from_diffusers(config: dict[str, Any]) -> VideoVAEConfig:
    """Our configuration of diffusers' config.json.

    Raises:
        ValueError: another class, or an option of it that `VideoVAE` does not have.
    """
    if config.get("_class_name", _CLASS_NAME) != _CLASS_NAME:
        raise ValueError(f"config.json: expected _class_name {_CLASS_NAME}, got {config['_class_name']!r}; give a VAE")
    if config.get("attn_scales"):
        raise ValueError(f"config.json: expected attn_scales [], got {config['attn_scales']}; use one of Wan's")
    patch = config.get("patch_size") or 1
    channels = {key: config.get(key, 3) for key in ("in_channels", "out_channels")}
    if channels["in_channels"] != channels["out_channels"] or channels["in_channels"] % patch**2:
        raise ValueError(f"config.json: expected in_channels == out_channels, a multiple of {patch**2}, got {channels}")
    multipliers = config.get("dim_mult", [1, 2, 4, 4])
    return VideoVAEConfig(
        in_channels=channels["in_channels"] // patch**2,
        latent_channels=config.get("z_dim", 16),
        base_dim=config.get("base_dim", 96),
        decoder_base_dim=config.get("decoder_base_dim"),
        dim_mult=multipliers,
        num_res_blocks=config.get("num_res_blocks", 2),
        temporal_downsample=config.get("temperal_downsample", [False, True, True]),
        spatial_downsample=[True] * (len(multipliers) - 1),
        patch_size=patch,
        is_residual=bool(config.get("is_residual", False)),
        latents_mean=config.get("latents_mean", WAN_LATENTS_MEAN),
        latents_std=config.get("latents_std", WAN_LATENTS_STD),
    )


def config_to_diffusers(config: VideoVAEConfig) -> dict[str, Any]:
    """Inverse of `config_from_diffusers`.

    Raises:
        ValueError: the configuration has parts that Wan's VAEs lack.
    """
    wan = VideoVAEConfig(
        in_channels=config.in_channels, latent_channels=config.latent_channels, base_dim=config.base_dim,
        decoder_base_dim=config.decoder_base_dim, dim_mult=config.dim_mult, num_res_blocks=config.num_res_blocks,
        temporal_downsample=config.temporal_downsample, spatial_downsample=[True] * (len(config.dim_mult) - 1),
        patch_size=config.patch_size, is_residual=config.is_residual,
        latents_mean=config.latents_mean, latents_std=config.latents_std,
    )  # fmt: skip
    if config != wan:
        different = [name for name, value in vars(wan).items() if getattr(config, name) != value]
        raise ValueError(f"config: expected what AutoencoderKLWan can express, got other values of {different}")
    pixels = config.in_channels * config.patch_size**2
    return {
        "_class_name": _CLASS_NAME,
        "base_dim": config.base_dim,
        "decoder_base_dim": config.decoder_base_dim,
        "z_dim": config.latent_channels,
        "dim_mult": list(config.dim_mult),
        "num_res_blocks": config.num_res_blocks,
        "attn_scales": [],
        "temperal_downsample": list(config.temporal_downsample),
        "dropout": 0.0,
        "is_residual": config.is_residual,
        "in_channels": pixels,
        "out_channels": pixels,
        "patch_size": None if config.patch_size == 1 else config.patch_size,
        "scale_factor_temporal": config.temporal_stride,
        "scale_factor_spatial": config.spatial_stride,
        "latents_mean": list(config.latents_mean or [0.0] * config.latent_channels),
        "latents_std": list(config.latents_std or [1.0] * config.latent_channels),
    }


def _name_pairs(config: VideoVAEConfig) -> Iterator[tuple[str, str]]:
    """(our name, diffusers' name) of every tensor."""
    with torch.device("meta"):
        names = list(VideoVAE(config).state_dict())
    coder_name = _residual_name if config.is_residual else _plain_name
    for name in names:
        theirs = re.sub(r"^to_posterior\.", "quant_conv.", name)
        theirs = re.sub(r"^from_latents\.", "post_quant_conv.", theirs)
        theirs = re.sub(r"^(\w+)\.mid\.before\.", r"\1.mid_block.resnets.0.", theirs)
        theirs = re.sub(r"^(\w+)\.mid\.after\.", r"\1.mid_block.resnets.1.", theirs)
        theirs = re.sub(r"^(\w+)\.mid\.attention\.", r"\1.mid_block.attentions.0.", theirs)
        theirs = coder_name(theirs, config.num_res_blocks)
        yield name, _rename_leaf(name, theirs)


def _plain_name(name: str, num_res_blocks: int) -> str:
    """Names of levels and their resampling in Wan 2.1, where the encoder's blocks and downsamplers are one list."""
    blocks = num_res_blocks + 1
    name = re.sub(r"^decoder\.levels\.(\d+)\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2.", name)
    name = re.sub(r"^decoder\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1.upsamplers.0.", name)
    name = re.sub(
        r"^encoder\.levels\.(\d+)\.(\d+)\.",
        lambda match: f"encoder.down_blocks.{int(match[1]) * blocks + int(match[2])}.",
        name,
    )
    return re.sub(
        r"^encoder\.downsamples\.(\d+)\.",
        lambda match: f"encoder.down_blocks.{(int(match[1]) + 1) * blocks - 1}.",
        name,
    )


def _residual_name(name: str, num_res_blocks: int) -> str:
    """The same in Wan 2.2, where each level is a block of its own."""
    name = re.sub(r"^decoder\.levels\.(\d+)\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2.", name)
    name = re.sub(r"^decoder\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1.upsampler.", name)
    name = re.sub(r"^encoder\.levels\.(\d+)\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2.", name)
    return re.sub(r"^encoder\.downsamples\.(\d+)\.", r"encoder.down_blocks.\1.downsampler.", name)


def _rename_leaf(name: str, theirs: str) -> str:
    if ".attention." in name:
        leaves = _ATTENTION
    elif "samples." in name:
        leaves = _RESAMPLE
    elif ".levels." in name or ".mid." in name:
        leaves = _BLOCK
    else:
        leaves = _CODER
    for their_leaf, our_leaf in leaves.items():
        theirs = re.sub(rf"\.{re.escape(our_leaf)}(?=\.|$)", f".{their_leaf}", theirs)
    return theirs


def _their_shape(theirs: str, tensor: Tensor) -> list[int]:
    """diffusers keeps norms and attention projections as weights of convolutions."""
    if theirs.endswith(".gamma"):
        return [len(tensor), 1, 1] if ".attentions." in theirs else [len(tensor), 1, 1, 1]
    if ".attentions." in theirs and theirs.endswith(".weight"):
        return [*tensor.shape, 1, 1]
    return list(tensor.shape)


def _reshape_if_same_size(tensor: Tensor, shape: torch.Size) -> Tensor:
    trailing = tensor.shape[len(shape) :]
    return tensor.reshape(shape) if trailing and trailing.numel() == 1 and tensor.numel() == shape.numel() else tensor
