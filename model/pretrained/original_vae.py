"""Loads Wan 2.1's VAE, as its authors publish it (`Wan2.1_VAE.pth`), into `VideoVAE`."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import fill
from model.pretrained.original_files import iterate_tensors, stored_tensors
from model.pretrained.wan_vae import WAN_LATENTS_MEAN, WAN_LATENTS_STD
from model.vae.video_vae import VideoVAE, VideoVAEConfig

# names of the leaves of our blocks, ours -> theirs; they number the layers of one sequence
_BLOCK = {"norm1.weight": "residual.0.gamma", "conv1": "residual.2", "norm2.weight": "residual.3.gamma",
          "conv2": "residual.6", "shortcut": "shortcut"}  # fmt: skip
_RESAMPLE = {"space": "resample.1", "time": "time_conv"}
_ATTENTION = {"norm.weight": "norm.gamma", "qkv": "to_qkv", "out": "proj"}
_CODER = {"conv_in": "conv1", "norm_out.weight": "head.0.gamma", "conv_out": "head.2"}
_MIDDLE = {"before": "0", "attention": "1", "after": "2"}


def original_vae_config(path: Path) -> VideoVAEConfig:
    """The shape of the VAE in a file; no weight is read.

    Raises:
        ValueError: the file is damaged, or not of Wan 2.1's kind.
    """
    tensors = stored_tensors(path)
    first, latents = tensors.get("encoder.conv1.weight"), tensors.get("conv2.weight")
    if first is None or latents is None:
        raise ValueError(f"{path}: expected Wan 2.1's VAE, got a file without encoder.conv1 and conv2; use its own VAE")
    if len(latents) != len(WAN_LATENTS_MEAN):
        raise ValueError(
            f"{path}: expected Wan 2.1's VAE with {len(WAN_LATENTS_MEAN)} latent channels, got one with "
            f"{len(latents)}; use Wan2.1_VAE.pth"
        )
    config = VideoVAEConfig(base_dim=len(first), latents_mean=WAN_LATENTS_MEAN, latents_std=WAN_LATENTS_STD)
    expected = {theirs for _, theirs in _name_pairs(config)}
    if different := sorted(expected ^ set(tensors)):
        raise ValueError(
            f"{path}: expected the layers of Wan 2.1's VAE, got others: {different[:3]}; use Wan2.1_VAE.pth"
        )
    return config


def load_original_vae(path: Path) -> VideoVAE:
    """The VAE of a file, in float32 on the CPU, in evaluation mode. Raises as `original_vae_config`."""
    config = original_vae_config(path)
    with torch.device("meta"):
        vae = VideoVAE(config)
    ours = {theirs: name for name, theirs in _name_pairs(config)}
    shapes = {name: tensor.shape for name, tensor in vae.state_dict().items()}

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for theirs, tensor in iterate_tensors(path):
            name = ours.get(theirs, theirs)
            # norms and attention projections are stored as weights of convolutions
            same_size = name in shapes and tensor.numel() == shapes[name].numel()
            yield name, tensor.reshape(shapes[name]) if same_size else tensor

    fill(vae, renamed(), dtype=torch.float32, source=path)
    return vae.eval()


def _name_pairs(config: VideoVAEConfig) -> Iterator[tuple[str, str]]:
    """(our name, the file's name) of every tensor."""
    with torch.device("meta"):
        names = list(VideoVAE(config).state_dict())
    blocks = config.num_res_blocks
    for name in names:
        coder, _, rest = name.partition(".")
        if coder not in ("encoder", "decoder"):
            yield name, {"to_posterior": "conv1", "from_latents": "conv2"}[coder] + "." + rest
            continue
        per_level = blocks + 2 if coder == "decoder" else blocks + 1  # a level's blocks and its resampling
        sequence = "upsamples" if coder == "decoder" else "downsamples"
        if match := re.fullmatch(r"levels\.(\d+)\.(\d+)\.(.+)", rest):
            theirs = f"{sequence}.{int(match[1]) * per_level + int(match[2])}.{_leaf(match[3], _BLOCK)}"
        elif match := re.fullmatch(r"\w+samples\.(\d+)\.(.+)", rest):
            theirs = f"{sequence}.{(int(match[1]) + 1) * per_level - 1}.{_leaf(match[2], _RESAMPLE)}"
        elif match := re.fullmatch(r"mid\.(\w+)\.(.+)", rest):
            leaves = _ATTENTION if match[1] == "attention" else _BLOCK
            theirs = f"middle.{_MIDDLE[match[1]]}.{_leaf(match[2], leaves)}"
        else:
            theirs = _leaf(rest, _CODER)
        yield name, f"{coder}.{theirs}"


def _leaf(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    raise AssertionError(f"_leaf: no name for {name}")
