"""Loads minWM's checkpoints of Wan 2.1 1.3B (`model.pt`) into `CausalDiT`.

All five stages of its training write the same names and shapes, so that only the folder's name says which stage a file
is from.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import fill
from model.config_file import read_json
from model.dit.causal_dit import CausalDiT
from model.dit.video_dit import VideoDiTConfig
from model.pretrained.original_files import check_shapes, read_pickle
from model.pretrained.wan_fun import our_name

STUDENT = "dmd"  # the stage whose network makes a chunk in four evaluations
_BRANCHES = ("generator_ema", "generator")  # where a file has both, its authors read the running average
_WRAPPER = "_fsdp_wrapped_module."
_NETWORK = "model."
_CAMERA = re.compile(r"blocks\.(\d+)\.self_attn\.prope_o\.(weight|bias)")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def student_config(path: Path, base: Path) -> VideoDiTConfig:
    """The shape of a checkpoint's network; no weight is read.

    Args:
        path: `model.pt`.
        base: The folder of Wan 2.1 T2V 1.3B, whose `config.json` says what the tensors do not: the number of heads.

    Raises:
        FileNotFoundError: the base has no `config.json`.
        ValueError: the file is damaged, or holds another network, an optimiser's state or quantised weights.
    """
    tensors = _tensors(path, "meta")
    if not any(_CAMERA.fullmatch(name) for name in tensors):
        raise ValueError(f"{path}: expected a camera (self_attn.prope_o), got a network without; take minWM's Action2V")
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise ValueError(
                f"{path}: expected weights of 16 or 32 bits, got {name} quantised, {tensor.dtype}; take its own"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = VideoDiTConfig(
            in_channels=shapes["patch_embedding.weight"][1],
            out_channels=shapes["head.head.weight"][0] // 4,
            width=shapes["patch_embedding.weight"][0],
            num_heads=_num_heads(base),
            num_blocks=1 + max(int(match[1]) for name in shapes if (match := _CAMERA.fullmatch(name))),
            ffn_dim=shapes["blocks.0.ffn.0.weight"][0],
            text_dim=shapes["text_embedding.0.weight"][1],
            freq_dim=shapes["time_embedding.0.weight"][1],
            camera=False,
            mask_channel=False,
        )
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"{path}: expected minWM's network of Wan 2.1, got one without {error}; fetch it again"
        ) from error
    if config.head_dim % 4:
        raise ValueError(
            f"{path}: expected heads of a multiple of 4 channels, got {config.head_dim}; take its own file"
        )
    with torch.device("meta"):
        dit = CausalDiT(config)
    check_shapes(path, dit, {_our_name(name): shape for name, shape in shapes.items()}, "minWM's network of Wan 2.1")
    return config


def load_student(path: Path, config: VideoDiTConfig, dtype: torch.dtype) -> CausalDiT:
    """The network of a checkpoint, on the CPU, in evaluation mode. Raises as `student_config`."""
    with torch.device("meta"):
        dit = CausalDiT(config)

    def renamed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in _tensors(path, "cpu").items():
            yield _our_name(name), tensor

    fill(dit, renamed(), dtype, source=path)
    return dit.requires_grad_(False).eval()


def _tensors(path: Path, device: str) -> dict[str, Tensor]:
    """The network's tensors by Wan's own names."""
    stored = read_pickle(path, device)
    branch = next((stored[name] for name in _BRANCHES if name in stored), None) if isinstance(stored, dict) else None
    if not isinstance(branch, dict) or not all(isinstance(tensor, Tensor) for tensor in branch.values()):
        found = sorted(map(str, stored))[:3] if isinstance(stored, dict) else type(stored).__name__
        raise ValueError(
            f"{path}: expected {' or '.join(_BRANCHES)}, a student's tensors, got {found}; take minWM's own file"
        )
    names = {str(name).replace(_WRAPPER, ""): tensor for name, tensor in branch.items()}
    return {name.removeprefix(_NETWORK): tensor for name, tensor in names.items()}


def _our_name(name: str) -> str:
    match = _CAMERA.fullmatch(name)
    return f"projective_out.{match[1]}.{match[2]}" if match else our_name(name)


def _num_heads(base: Path) -> int:
    path = base / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected {path}, found none; download it with the base")
    stored = read_json(path)
    if stored.get("model_type", "t2v") != "t2v" or not isinstance(stored.get("num_heads"), int):
        raise ValueError(f"{path}: expected that of Wan 2.1 T2V with num_heads, got {stored}; download the base again")
    return int(stored["num_heads"])
