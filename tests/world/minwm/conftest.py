"""A folder of minWM's student as its page's commands fill it, in small: random weights under the published names."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from model.pretrained.original_vae import _name_pairs
from model.vae.video_vae import VideoVAE, VideoVAEConfig

WIDTH, BLOCKS, HIDDEN, TEXT, WAVES, TOKENS = 24, 2, 20, 16, 8, 10
SETTINGS = {"kind": "minwm", "height": 16, "width": 32, "window": 12, "default_prompts": ["a red box", "a blue ball"]}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int, std: float = 0.2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: std * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def student_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors, as in the checkpoint's `generator`."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (WIDTH, 16, 1, 2, 2),
        "patch_embedding.bias": (WIDTH,),
        "head.modulation": (1, 2, WIDTH),
        **linear("head.head", 64, WIDTH),
        **linear("text_embedding.0", WIDTH, TEXT),
        **linear("text_embedding.2", WIDTH, WIDTH),
        **linear("time_embedding.0", WIDTH, WAVES),
        **linear("time_embedding.2", WIDTH, WIDTH),
        **linear("time_projection.1", 6 * WIDTH, WIDTH),
    }
    for index in range(BLOCKS):
        block = f"blocks.{index}."
        shapes[block + "modulation"] = (1, 6, WIDTH)
        shapes |= {block + "norm3.weight": (WIDTH,), block + "norm3.bias": (WIDTH,)}
        shapes |= linear(block + "ffn.0", HIDDEN, WIDTH) | linear(block + "ffn.2", WIDTH, HIDDEN)
        for attention in ("self_attn.", "cross_attn."):
            for layer in "qkvo":
                shapes |= linear(block + attention + layer, WIDTH, WIDTH)
            shapes |= {f"{block}{attention}norm_{layer}.weight": (WIDTH,) for layer in "qk"}
        shapes |= linear(block + "self_attn.prope_o", WIDTH, WIDTH)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def text_encoder_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of UMT5's tensors as Wan's authors publish them: here two heads of four channels."""
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (TOKENS, TEXT), "norm.weight": (TEXT,)}
    for block in ("blocks.0.", "blocks.1."):
        shapes |= {block + "norm1.weight": (TEXT,), block + "norm2.weight": (TEXT,)}
        shapes |= {f"{block}attn.{layer}.weight": (8, TEXT) for layer in "qkv"} | {block + "attn.o.weight": (TEXT, 8)}
        shapes |= {block + "ffn.gate.0.weight": (32, TEXT), block + "ffn.fc1.weight": (32, TEXT)}
        shapes |= {block + "ffn.fc2.weight": (TEXT, 32), block + "pos_embedding.embedding.weight": (32, 2)}
    return shapes


def vae_shape(name: str, ours: tuple[int, ...]) -> tuple[int, ...]:
    """Norms and the attention's projections are stored as weights of convolutions."""
    if ".middle.1." in name:
        return (*ours, 1, 1) if name.endswith((".gamma", ".weight")) else ours
    return (*ours, 1, 1, 1) if name.endswith(".gamma") else ours


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, umt5_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("ckpts")
    base, stage = folder / "Wan2.1-T2V-1.3B", folder / "Wan21" / "Action2V" / "dmd"
    stage.mkdir(parents=True)
    torch.save({"generator_ema": random_tensors(student_shapes(), 0)}, stage / "model.pt")
    shutil.copytree(umt5_folder / "tokenizer", base / "google" / "umt5-xxl")
    (base / "config.json").write_text(json.dumps({"_class_name": "WanModel", "model_type": "t2v", "num_heads": 2}))
    torch.save(random_tensors(text_encoder_shapes(), 1), base / "models_t5_umt5-xxl-enc-bf16.pth")
    shape = VideoVAEConfig(base_dim=4)
    vae = VideoVAE(shape).state_dict()
    shapes = {theirs: vae_shape(theirs, tuple(vae[ours].shape)) for ours, theirs in _name_pairs(shape)}
    torch.save(random_tensors(shapes, 2, 0.15), base / "Wan2.1_VAE.pth")
    (folder / "world.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """A copy whose files a test may change."""
    return Path(shutil.copytree(published, tmp_path / "copy"))
