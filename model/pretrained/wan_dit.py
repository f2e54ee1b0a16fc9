"""Loads and saves Wan's transformer in diffusers' folder format as `VideoDiT`, one tensor at a time.

Our additions are stored in the same weight file as `camera_embedding.weight` and `mask_embedding.weight`, each only if
any entry is non-zero. diffusers loads the folder either way: the same network if they are absent, else the base alone
with a warning that names them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import fill
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained.diffusers_folder import iterate_tensors, read_config, write_folder

DIT_CLASS = "WanTransformer3DModel"

# What diffusers assumes for a key that config.json leaves out.
DIT_DEFAULTS: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
ROPE_SCALE = "rope_scale"  # our own key; diffusers warns that it does not know it, and would compute another network

# Our name -> diffusers' name, piece by piece, in this order.
DIT_NAMES = (
    ("text_projection.", "condition_embedder.text_embedder."),
    ("time_embedding.to_modulation.", "condition_embedder.time_proj."),
    ("time_embedding.", "condition_embedder.time_embedder."),
    ("self_attention.", "attn1."),
    ("text_attention.", "attn2."),
    (".query_norm.", ".norm_q."),
    (".key_norm.", ".norm_k."),
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".out.", ".to_out.0."),
    ("text_norm.", "norm2."),
    ("feed_forward.linear_1.", "ffn.net.0.proj."),
    ("feed_forward.linear_2.", "ffn.net.2."),
    ("head.linear.", "proj_out."),
    ("head.modulation", "scale_shift_table"),
    (".modulation", ".scale_shift_table"),
    ("camera_embedding.patchify.", "camera_embedding."),
)
ADDITIONS = ("camera_embedding.patchify.weight", "mask_embedding.weight")
CAMERA_NAME = "camera_embedding.weight"  # the first of them in the file, where the camera has been trained


def load_dit(folder: str | Path, dtype: torch.dtype | None = None) -> VideoDiT:
    """A `VideoDiT` with the weights of a diffusers folder of `WanTransformer3DModel`, or of `save_dit`.

    The camera layer and the mask channel are built unless `save_dit` recorded their absence, and are zero where the
    folder has no weights for them: the base's output is unchanged.

    Args:
        folder: holds config.json and safetensors weights, whole or sharded.
        dtype: converts the weights; None keeps the stored type.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the folder holds a network that ours does not cover (image-to-video
            cross-attention, other classes).
    """
    config = dit_config_from_diffusers(read_config(folder))
    with torch.device("meta"):
        dit = VideoDiT(config)
    fill(dit, _named_as_ours(dit, iterate_tensors(folder)), dtype)
    return dit


def save_dit(dit: VideoDiT, folder: str | Path, max_shard_bytes: float = 5e9, dtype: torch.dtype | None = None) -> None:
    """Writes a folder that `load_dit` and diffusers' `WanTransformer3DModel.from_pretrained` read.

    `dtype`: type of the stored weights; None keeps their own.

    Raises:
        ValueError: diffusers has no setting for this network's `rope_theta`.
    """
    config = diffusers_from_dit_config(dit.config)
    state = dit.state_dict()
    names = [name for name in state if name not in ADDITIONS or state[name].any()]
    stored = ((diffusers_name(name), state[name] if dtype is None else state[name].to(dtype)) for name in names)
    write_folder(folder, config, stored, max_shard_bytes)


def dit_config_from_diffusers(stored: dict[str, Any]) -> VideoDiTConfig:
    """Our configuration of a config.json of `WanTransformer3DModel`.

    Raises:
        ValueError: the class, a key or a value is one that our network does not cover.
    """
    kind = stored.get("_class_name", DIT_CLASS)
    if kind != DIT_CLASS:
        raise ValueError(f"config.json: expected _class_name {DIT_CLASS}, got {kind}; give the transformer's folder")
    unknown = sorted(key for key in stored if key not in (*DIT_DEFAULTS, ROPE_SCALE) and not key.startswith("_"))
    if unknown:
        raise ValueError(f"config.json: expected keys of {DIT_CLASS}, got {unknown}; this variant is not covered")
    values = DIT_DEFAULTS | stored
    for key in ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len"):
        if values[key] is not None:
            raise ValueError(
                f"{key}: expected null, got {values[key]}; image cross-attention (Wan 2.1 I2V) is not covered, "
                "use a text-to-video base: the mask channel gives it image-to-video"
            )
    if values["qk_norm"] != DIT_DEFAULTS["qk_norm"]:
        raise ValueError(f"qk_norm: expected {DIT_DEFAULTS['qk_norm']!r}, got {values['qk_norm']!r}; not covered")
    additions = stored.get("_cameractrlworld", {})
    return VideoDiTConfig(
        in_channels=values["in_channels"],
        out_channels=values["out_channels"] or values["in_channels"],
        width=values["num_attention_heads"] * values["attention_head_dim"],
        num_heads=values["num_attention_heads"],
        num_blocks=values["num_layers"],
        ffn_dim=values["ffn_dim"],
        text_dim=values["text_dim"],
        freq_dim=values["freq_dim"],
        patch_size=list(values["patch_size"]),
        eps=values["eps"],
        rope_scale=list(stored.get(ROPE_SCALE, [1.0, 1.0, 1.0])),
        cross_attn_norm=values["cross_attn_norm"],
        camera=additions.get("camera", True),
        mask_channel=additions.get("mask_channel", True),
        camera_frequencies=additions.get("camera_frequencies", 0),
    )


def diffusers_from_dit_config(config: VideoDiTConfig) -> dict[str, Any]:
    """The config.json of a network; what diffusers does not know is under a private key, which it ignores.

    Raises:
        ValueError: diffusers has no setting for this network's `rope_theta` or its camera.
    """
    for name, plain in (("camera_injection", "first"), ("camera_reference", "episode"), ("still_channels", 0)):
        if getattr(config, name) != plain:
            raise ValueError(
                f"{name}: expected {plain!r}, all that {DIT_CLASS} knows, got {getattr(config, name)!r}; "
                "keep our own format"
            )
    if config.camera_attention:
        raise ValueError(
            f"camera_attention: expected false, got true: {DIT_CLASS} would turn all channels of a head and be another "
            "network without a word; keep our own format"
        )
    if config.rope_theta != 1e4:
        raise ValueError(
            f"rope_theta: expected 10000 (fixed in {DIT_CLASS}), got {config.rope_theta}; keep our own format"
        )
    scale = list(config.rope_scale)
    return (
        DIT_DEFAULTS
        | ({} if scale == [1.0, 1.0, 1.0] else {ROPE_SCALE: scale})
        | {
            "_class_name": DIT_CLASS,
            "_cameractrlworld": {
                "camera": config.camera,
                "mask_channel": config.mask_channel,
                "camera_frequencies": config.camera_frequencies,
            },
            "patch_size": list(config.patch_size),
            "num_attention_heads": config.num_heads,
            "attention_head_dim": config.head_dim,
            "in_channels": config.in_channels,
            "out_channels": config.out_channels,
            "text_dim": config.text_dim,
            "freq_dim": config.freq_dim,
            "ffn_dim": config.ffn_dim,
            "num_layers": config.num_blocks,
            "cross_attn_norm": config.cross_attn_norm,
            "eps": config.eps,
        }
    )


def _named_as_ours(dit: VideoDiT, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Renames a folder's tensors; zeros for additions that the folder lacks."""
    state = dit.state_dict()
    ours = {diffusers_name(name): name for name in state}
    zero_additions = {name for name in ADDITIONS if name in state}
    dtype = torch.float32
    for name, tensor in tensors:
        dtype = tensor.dtype
        zero_additions.discard(ours.get(name, name))
        yield ours.get(name, name), tensor
    for name in sorted(zero_additions):
        yield name, torch.zeros(state[name].shape, dtype=dtype)


def diffusers_name(name: str) -> str:
    """What diffusers calls one of our tensors."""
    for ours, theirs in DIT_NAMES:
        name = name.replace(ours, theirs)
    return name
