"""Loads Wan-Fun-Control-Camera's transformer from its published folder into `WanFunDiT`."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import fill
from model.config_file import read_json
from model.dit.wan_fun import WanFunConfig, WanFunDiT
from model.pretrained.original_files import check_shapes, iterate_tensors, stored_tensors

EXPERTS = (
    "high_noise_model",
    "low_noise_model",
)  # folders of Wan 2.2 A14B's two transformers: for high noise, for low noise
_HEAD_DIM = 128  # channels of a head in every published size, where config.json does not say
# prefixes of tensors, the files' -> ours; the first match counts
_NAMES = {
    "text_embedding.0.": "text_projection.linear_1.",
    "text_embedding.2.": "text_projection.linear_2.",
    "time_embedding.0.": "time_embedding.linear_1.",
    "time_embedding.2.": "time_embedding.linear_2.",
    "time_projection.1.": "time_embedding.to_modulation.",
    "img_emb.proj.0.": "image_projection.norm_in.",
    "img_emb.proj.1.": "image_projection.linear_1.",
    "img_emb.proj.3.": "image_projection.linear_2.",
    "img_emb.proj.4.": "image_projection.norm_out.",
    "head.head.": "head.linear.",
}
_BLOCK_NAMES = {
    "self_attn.": "self_attention.",
    "cross_attn.": "text_attention.",
    "norm3.": "text_norm.",
    "ffn.0.": "feed_forward.linear_1.",
    "ffn.2.": "feed_forward.linear_2.",
}
_ATTENTION_NAMES = {
    "q": "query",
    "k": "key",
    "v": "value",
    "o": "out",
    "norm_q": "query_norm",
    "norm_k": "key_norm",
    "k_img": "image_key",
    "v_img": "image_value",
    "norm_k_img": "image_key_norm",
}


def transformer_folders(folder: Path) -> tuple[Path, ...]:
    """The folders of a published model's transformers: the folder itself, or two experts, the high-noise one first."""
    experts = tuple(folder / name for name in EXPERTS)
    return experts if any(expert.is_dir() for expert in experts) else (folder,)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a transformer: one, or all of its shards."""
    return sorted(folder.glob("diffusion_pytorch_model*.safetensors"))


def wan_fun_config(folder: Path) -> WanFunConfig:
    """The shape of the transformer in a folder, by its tensors; no weight is read.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: a file is damaged, or the tensors are not those of Wan-Fun-Control-Camera.
    """
    files = weight_files(folder)
    if not files:
        raise FileNotFoundError(f"expected diffusion_pytorch_model*.safetensors in {folder}, found none; download them")
    stored = {name: tensor for file in files for name, tensor in stored_tensors(file).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    try:
        width, in_channels = shapes["patch_embedding.weight"][:2]
        num_blocks = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"blocks\.(\d+)\.", name)))
        config = WanFunConfig(
            in_channels=in_channels,
            out_channels=shapes["head.head.weight"][0] // 4,
            width=width,
            num_heads=_num_heads(folder, width),
            num_blocks=num_blocks,
            ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
            text_dim=shapes["text_embedding.0.weight"][1],
            freq_dim=shapes["time_embedding.0.weight"][1],
            image_dim=shapes["img_emb.proj.1.weight"][1] if "img_emb.proj.1.weight" in shapes else 0,
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{folder}: expected the tensors of Wan-Fun-Control-Camera, got none for {error}") from error
    with torch.device("meta"):
        dit = WanFunDiT(config)
    check_shapes(
        folder, dit, {our_name(name): shape for name, shape in shapes.items()}, "Wan-Fun-Control-Camera's tensors"
    )
    return config


def load_wan_fun(folder: Path, config: WanFunConfig, dtype: torch.dtype | None = None) -> WanFunDiT:
    """The transformer of a folder on the CPU, in evaluation mode; `dtype` None: in the stored type."""
    with torch.device("meta"):
        dit = WanFunDiT(config)

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for file in weight_files(folder):
            for name, tensor in iterate_tensors(file):
                yield our_name(name), tensor

    fill(dit, renamed(), dtype, source=folder)
    return dit.requires_grad_(False).eval()


def our_name(name: str) -> str:
    """Our name for a tensor of the files."""
    if match := re.match(r"(blocks\.\d+\.)(.+)", name):
        rest = _renamed(match[2], _BLOCK_NAMES)
        if attention := re.fullmatch(r"((?:self|text)_attention\.)(\w+)(.*)", rest):
            rest = attention[1] + _ATTENTION_NAMES[attention[2]] + attention[3]
        return match[1] + rest
    return _renamed(name, _NAMES)


def _renamed(name: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _num_heads(folder: Path, width: int) -> int:
    path = folder / "config.json"
    stored = read_json(path).get("num_heads") if path.is_file() else None
    return stored if isinstance(stored, int) and stored > 0 else max(1, width // _HEAD_DIM)
