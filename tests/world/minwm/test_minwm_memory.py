"""The estimate of memory against what the network's intermediate results take, counted."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.dit.causal_dit import CausalDiT
from model.dit.video_dit import VideoDiTConfig
from model.pretrained.original_vae import load_original_vae
from model.vae.video_vae import VideoVAEConfig
from model.world.load import load_world
from model.world.open.minwm_folder import MinWMFiles, check_files, memory_needs, transformer_activation_bytes

SIDE, WINDOW, CHUNK = 16, 20, 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_network_takes_what_is_said(peak: Any, dtype: torch.dtype) -> None:
    config = VideoDiTConfig(
        width=256, num_heads=2, num_blocks=2, ffn_dim=1493, text_dim=8, camera=False, mask_channel=False
    )
    dit = CausalDiT(config).to(dtype)
    tokens = SIDE * SIDE
    stored = torch.zeros(1, (WINDOW - CHUNK) * tokens, 2, 128, dtype=dtype)
    poses = torch.eye(4).expand(1, WINDOW, 4, 4)
    latents = torch.zeros(1, 16, CHUNK, 2 * SIDE, 2 * SIDE)
    with torch.no_grad():
        text = dit.encode_text(torch.zeros(1, 4, 8))
        with peak(dit) as counted:
            dit(latents, torch.tensor([0.5]), text, poses, [(stored, stored)] * 2)
    assert counted.peak == pytest.approx(transformer_activation_bytes(config, WINDOW * tokens, dtype.itemsize), rel=0.2)


def test_an_episode_takes_what_is_said(published: Path) -> None:
    needs = memory_needs(check_files(published), (16, 32, 12), torch.float32, torch.device("cpu"))
    memory = load_world(published).start([3])[0].memory
    large = [memory["keys"], memory["values"], *memory["decoder"].values()]
    assert needs["an episode before and after a clip"] == 2 * sum(tensor.nbytes for tensor in large)
    vae = load_original_vae(published / "Wan2.1-T2V-1.3B" / "Wan2.1_VAE.pth")
    assert needs["VAE"] == sum(weights.nbytes for weights in vae.parameters())


def test_the_text_encoder_leaves_a_card_before_the_clip_is_made(published: Path) -> None:
    files = check_files(published)
    here, card = (memory_needs(files, (480, 832, 20), torch.bfloat16, torch.device(name)) for name in ("cpu", "cuda"))
    assert sum(card.values()) < sum(here.values())


def test_the_page_s_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "model.world.open.minwm_folder"
    with torch.device("meta"):
        text = {"umt5-xxl": torch.empty(5_680_910_336, dtype=torch.bfloat16)}
    monkeypatch.setattr(f"{folder}.original_vae_config", lambda path: VideoVAEConfig())
    monkeypatch.setattr(f"{folder}.stored_tensors", lambda path: text)
    config, nowhere = VideoDiTConfig(camera=False, mask_channel=False), Path("nowhere")
    files = MinWMFiles(nowhere, nowhere, nowhere, nowhere, config)
    needs = memory_needs(files, (480, 832, 20), torch.bfloat16, torch.device("cuda"))
    page = (Path(__file__).parents[3] / "model" / "pretrained" / "camera_models.md").read_text(encoding="utf-8")
    assert f"{sum(needs.values()) / 1e9:.0f} GB by our count" in page
    keys, cache = map(float, re.findall(r"VAE's cache: ([\d.]+) and ([\d.]+) GB an", page)[0])
    assert keys + cache == pytest.approx(needs["an episode before and after a clip"] / 2e9, abs=0.1)
