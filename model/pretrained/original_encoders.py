"""Loads Wan's UMT5 and CLIP, as its authors publish them, into transformers' classes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import fill
from model.optional_dependency import require
from model.pretrained.original_files import iterate_tensors, stored_tensors

_TEXT_NAMES = {
    "norm1": "layer.0.layer_norm",
    "attn": "layer.0.SelfAttention",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_IMAGE_NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_VISUAL = "visual."
_IMAGE_HEAD_DIM = 80  # channels of a head of ViT-H, which the file does not say


def check_text_encoder(path: Path) -> int:
    """The width of the UMT5 encoder in a file; no weight is read.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    return int(_umt5_config(path).d_model)


def load_text_encoder(path: Path) -> Any:
    """transformers' `UMT5EncoderModel` with a file's weights, on the CPU, in the stored type."""
    transformers = require("transformers", extra="wan")
    with torch.device("meta"):
        model = transformers.UMT5EncoderModel(_umt5_config(path))

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in iterate_tensors(path):
            if name == "token_embedding.weight":
                yield "shared.weight", tensor
                yield "encoder.embed_tokens.weight", tensor
            elif name == "norm.weight":
                yield "encoder.final_layer_norm.weight", tensor
            else:
                yield f"encoder.{_block_name(name, 'blocks', 'block', _TEXT_NAMES)}", tensor

    fill(model, renamed(), source=path)
    return model.requires_grad_(False).eval()


def check_image_encoder(path: Path) -> int:
    """The width of the CLIP image encoder in a file; no weight is read.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    return int(_clip_config(path).hidden_size)


def load_image_encoder(path: Path) -> Any:
    """transformers' `CLIPVisionModel` with a file's weights, without its last block, on the CPU, in the stored type.

    Wan reads the tokens before the last block; the file's text encoder is not loaded.
    """
    transformers = require("transformers", extra="wan")
    config = _clip_config(path)
    with torch.device("meta"):
        model = transformers.CLIPVisionModel(config)
    expected = set(model.state_dict())
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in expected) else ""

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in iterate_tensors(path):
            if name.startswith(_VISUAL):
                for ours, value in _image_tensors(name.removeprefix(_VISUAL), tensor, config.num_hidden_layers):
                    yield prefix + ours, value

    fill(model, renamed(), source=path)
    embeddings = model.get_submodule(f"{prefix}embeddings")
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]  # no weight, so still on the meta device
    return model.requires_grad_(False).eval()


def _image_tensors(name: str, tensor: Tensor, num_blocks: int) -> Iterator[tuple[str, Tensor]]:
    """Converts one of the file's tensors into none, one or three of transformers'."""
    plain = {
        "cls_embedding": "embeddings.class_embedding",
        "patch_embedding.weight": "embeddings.patch_embedding.weight",
        "pos_embedding": "embeddings.position_embedding.weight",
    }
    if name in plain:
        yield plain[name], tensor.flatten() if name == "cls_embedding" else tensor.squeeze(0)
    elif match := re.fullmatch(r"transformer\.(\d+)\.attn\.to_qkv\.(\w+)", name):
        if int(match[1]) < num_blocks:
            for part, value in zip("qkv", tensor.chunk(3), strict=True):
                yield f"encoder.layers.{match[1]}.self_attn.{part}_proj.{match[2]}", value.clone()
    elif match := re.match(r"transformer\.(\d+)\.", name):
        if int(match[1]) < num_blocks:
            yield f"encoder.{_block_name(name, 'transformer', 'layers', _IMAGE_NAMES)}", tensor
    elif not name.startswith("head"):
        layer, _, leaf = name.partition(".")
        yield {"pre_norm": "pre_layrnorm", "post_norm": "post_layernorm"}.get(layer, layer) + "." + leaf, tensor


def _block_name(name: str, theirs: str, ours: str, layers: dict[str, str]) -> str:
    match = re.fullmatch(rf"{theirs}\.(\d+)\.(.+)", name)
    if match is None:
        return name
    rest = match[2]
    for layer, renamed in layers.items():
        if rest.startswith(f"{layer}."):
            rest = renamed + rest.removeprefix(layer)
            break
    return f"{ours}.{match[1]}.{rest}"


def _umt5_config(path: Path) -> Any:
    def read(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        num_buckets, num_heads = shapes["blocks.0.pos_embedding.embedding.weight"]
        vocabulary, width = shapes["token_embedding.weight"]
        return {
            "vocab_size": vocabulary,
            "d_model": width,
            "d_kv": shapes["blocks.0.attn.q.weight"][0] // num_heads,
            "d_ff": shapes["blocks.0.ffn.fc1.weight"][0],
            "num_layers": _num_blocks(shapes, "blocks"),
            "num_heads": num_heads,
            "relative_attention_num_buckets": num_buckets,
            "feed_forward_proj": "gated-gelu",
        }

    return _config("UMT5Config", path, "Wan's UMT5 encoder", read)


def _clip_config(path: Path) -> Any:
    def read(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        width, _, patch = shapes[f"{_VISUAL}patch_embedding.weight"][:3]
        side = round((shapes[f"{_VISUAL}pos_embedding"][1] - 1) ** 0.5)
        return {
            "hidden_size": width,
            "intermediate_size": shapes[f"{_VISUAL}transformer.0.mlp.0.weight"][0],
            "num_hidden_layers": _num_blocks(shapes, f"{_VISUAL}transformer") - 1,
            "num_attention_heads": max(1, width // _IMAGE_HEAD_DIM),
            "image_size": side * patch,
            "patch_size": patch,
            "hidden_act": "gelu",
        }

    return _config("CLIPVisionConfig", path, "the image encoder of CLIP (ViT-H/14)", read)


def _config(kind: str, path: Path, contents: str, read: Callable[[dict[str, tuple[int, ...]]], dict[str, Any]]) -> Any:
    shapes = {name: tuple(tensor.shape) for name, tensor in stored_tensors(path).items()}
    try:
        settings = read(shapes)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected {contents}, got a file without {error}; take the one of the model"
        ) from error
    return getattr(require("transformers", extra="wan"), kind)(**settings)


def _num_blocks(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    numbers = [int(match[1]) for name in shapes if (match := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)
