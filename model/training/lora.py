"""Low-rank adapters (LoRA, Hu et al. 2021) on the matrices of a VideoDiT, by the library peft.

What an open base lacks (the camera layer, the mask channel) is trained in full beside them.
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from model.dit.video_dit import VideoDiT
from model.optional_dependency import require
from model.pretrained.wan_dit import diffusers_name

# attention to the frames and to the text, and the feed-forward network, of every block
_MATRICES = r"blocks\.\d+\.(?:(?:self|text)_attention\.(?:query|key|value|out)|feed_forward\.linear_[12])"
_IN_FULL = ("camera_embedding.", "mask_embedding.")


@dataclass(kw_only=True)
class LoRAConfig:
    """Rank of the adapters; 0: none, all parameters are trained. Their scale alpha is the rank."""

    rank: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a negative rank."""
        if self.rank < 0:
            raise ValueError(f"lora.rank: expected 0 (none) or more, got {self.rank}")


def add_lora(dit: VideoDiT, config: LoRAConfig) -> VideoDiT:
    """Freezes the network except our additions, gives its matrices adapters that start at zero, and returns it.

    Raises:
        ValueError: peft is not installed.
    """
    peft = require("peft", "lora")
    dit.requires_grad_(False)
    rank = config.rank
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=_MATRICES), dit)
    for name, parameter in dit.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith(_IN_FULL))
    return dit


def is_adapted(name: str) -> bool:
    """Whether a parameter of this name is the frozen part of a matrix that has an adapter."""
    return "base_layer." in name


def has_lora(dit: nn.Module) -> bool:
    """Whether the network has adapters."""
    return any("lora_" in name for name, _ in dit.named_parameters())


def merged(dit: VideoDiT) -> VideoDiT:
    """A copy of the network with its adapters added to its matrices: an ordinary `VideoDiT`, on the CPU.

    A GPU that has room for one network need not have it for two. Matrices keep their type: those in bfloat16 are
    rounded once more.
    """
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("cpu", copy=True), p.requires_grad) for p in dit.parameters()
    }
    plain = copy.deepcopy(dit, memo).cpu()  # its buffers, too
    for name, layer in _lora_layers(plain).items():
        layer.merge()
        owner, _, leaf = name.rpartition(".")
        setattr(plain.get_submodule(owner), leaf, layer.get_base_layer())
    return plain


def lora_tensors(dit: VideoDiT) -> dict[str, Tensor]:
    """The adapters, under the names that `diffusers` loads: `transformer.load_lora_adapter(FILE)`."""
    tensors = {}
    for name, layer in _lora_layers(dit).items():
        theirs = f"transformer.{diffusers_name(name + '.').removesuffix('.')}"
        tensors[f"{theirs}.lora_A.weight"] = layer.lora_A["default"].weight.detach()
        tensors[f"{theirs}.lora_B.weight"] = layer.lora_B["default"].weight.detach()
    return tensors


def _lora_layers(dit: nn.Module) -> dict[str, Any]:
    lora_layer = require("peft.tuners.lora", "lora").LoraLayer
    return {name: module for name, module in dit.named_modules() if isinstance(module, lora_layer)}
