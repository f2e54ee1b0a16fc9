"""A Wan-Fun-Control-Camera folder in small: random weights of DiffSynth-Studio's own classes, under their own names."""

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

ORACLE = "diffsynth==2.1.12"
MODULES = (
    "wan_video_dit",
    "wan_video_camera_controller",
    "wan_video_vae",
    "wan_video_text_encoder",
    "wan_video_image_encoder",
)
SETTINGS = {
    "kind": "wan_fun",
    "height": 32,
    "width": 48,
    "num_frames": 9,
    "num_steps": 2,
    "default_prompts": ["a red box", "a blue ball"],
}


@pytest.fixture(scope="session")
def diffsynth(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The modules of Wan's networks, without the package round them, which needs torchvision and more.

    It is not in the extra `dev`, because torchvision must fit torch to the build: `make` installs it alone, and where
    it is missing the package index is asked for its one file.
    """
    import transformers  # noqa: F401  # before a torchvision that is none

    root = _root(tmp_path_factory)
    stubs: dict[str, Any] = {name: ModuleType(name) for name in ("diffsynth", "diffsynth.core")}
    stubs["diffsynth"].__path__ = [str(root)]
    stubs["diffsynth.core"].__path__ = [str(root / "core")]
    stubs["torchvision"] = ModuleType("torchvision")
    stubs["torchvision.transforms"] = stubs["torchvision"].transforms = ModuleType("torchvision.transforms")
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        modules = {name: importlib.import_module(f"diffsynth.models.{name}") for name in MODULES}
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return SimpleNamespace(**modules)


def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.find_spec("diffsynth")
    if spec is not None and spec.origin:
        return Path(spec.origin).parent
    folder = tmp_path_factory.mktemp("diffsynth")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), ORACLE]
    if subprocess.run(pip, capture_output=True).returncode:
        message = f"needs {ORACLE}: pip install --no-deps {ORACLE}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder / "diffsynth"


def randomise(network: nn.Module, seed: int, std: float = 0.1) -> nn.Module:
    """Weights of this deviation about what they are: no layer is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator) * std)
    return network.eval()


@pytest.fixture(scope="session")
def networks(diffsynth: SimpleNamespace) -> SimpleNamespace:
    """The four, tiny, and random."""
    dit = diffsynth.wan_video_dit.WanModel(
        dim=48, in_dim=32, ffn_dim=64, out_dim=16, text_dim=16, freq_dim=32, eps=1e-6, patch_size=(1, 2, 2),
        num_heads=2, num_layers=2, has_image_input=True, add_control_adapter=True,
    )  # fmt: skip
    dit.img_emb = diffsynth.wan_video_dit.MLP(160, 48)
    vae = diffsynth.wan_video_vae.VideoVAE_(dim=8, z_dim=16)
    text = diffsynth.wan_video_text_encoder.WanTextEncoder(
        vocab=32, dim=16, dim_attn=24, dim_ffn=32, num_heads=3, num_layers=2, num_buckets=32
    )
    image = diffsynth.wan_video_image_encoder.VisionTransformer(
        image_size=28, patch_size=14, dim=160, mlp_ratio=2, out_dim=8, num_heads=2, num_layers=3, activation="gelu"
    )
    parts = {"dit": dit, "vae": vae, "text": text, "image": image}
    return SimpleNamespace(**{name: randomise(part, seed) for seed, (name, part) in enumerate(parts.items())})


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, networks: SimpleNamespace, umt5_folder: Path) -> Path:
    """The folder as it is downloaded, and a `world.yaml` for its small size."""
    folder = tmp_path_factory.mktemp("Wan2.1-Fun-V1.1-Control-Camera")
    save_file(networks.dit.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps({"dim": 48, "num_heads": 2, "in_dim": 32}))
    torch.save(networks.vae.state_dict(), folder / "Wan2.1_VAE.pth")
    torch.save(networks.text.state_dict(), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    clip = {f"visual.{name}": weights for name, weights in networks.image.state_dict().items()}
    clip |= {"log_scale": torch.ones([]), "textual.token_embedding.weight": torch.ones(4, 2)}
    torch.save(clip, folder / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    shutil.copytree(umt5_folder / "tokenizer", folder / "google" / "umt5-xxl")
    (folder / "world.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


@pytest.fixture(scope="session")
def experts(diffsynth: SimpleNamespace) -> tuple[nn.Module, nn.Module]:
    """Wan 2.2's two transformers, for much and for little noise, tiny, and random."""
    model = diffsynth.wan_video_dit.WanModel
    high, low = (
        model(
            dim=48, in_dim=36, ffn_dim=64, out_dim=16, text_dim=16, freq_dim=32, eps=1e-6, patch_size=(1, 2, 2),
            num_heads=2, num_layers=2, has_image_input=False, add_control_adapter=True, require_clip_embedding=False,
        )
        for _ in range(2)
    )  # fmt: skip
    return randomise(high, 11), randomise(low, 12)


@pytest.fixture(scope="session")
def published_experts(
    tmp_path_factory: pytest.TempPathFactory, published: Path, experts: tuple[nn.Module, nn.Module]
) -> Path:
    """The folder of Wan 2.2 A14B as it is downloaded, each expert in three shards."""
    folder = tmp_path_factory.mktemp("Wan2.2-Fun-A14B-Control-Camera")
    shutil.copytree(
        published, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("diffusion*", "config.json", "*clip*")
    )
    for name, expert in zip(("high_noise_model", "low_noise_model"), experts, strict=True):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"dim": 48, "num_heads": 2, "in_dim": 36}))
        names = sorted(expert.state_dict())
        for k in range(3):
            shard = {each: expert.state_dict()[each] for each in names[k::3]}
            save_file(shard, folder / name / f"diffusion_pytorch_model-{k + 1:05d}-of-00003.safetensors")
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy whose files a test may change."""
    yield Path(shutil.copytree(published, tmp_path / "copy"))
