"""The estimate of memory against what the networks' intermediate results take, counted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from model.device import on_device
from model.dit.wan_fun import WanFunConfig, WanFunDiT
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.load import load_world
from model.world.open.memory_need import decoding_bytes
from model.world.open.wan_fun_config import WanFunWorldConfig
from model.world.open.wan_fun_folder import (
    WanFunFiles,
    check_files,
    memory_needs,
    transformer_activation_bytes,
)

FOLDER = "model.world.open.wan_fun_folder"
PAGE = Path(__file__).parents[3] / "model" / "pretrained" / "camera_models.md"


@pytest.mark.parametrize("ffn_dim", [64, 1024])
def test_the_transformer_takes_what_is_said(peak: Any, ffn_dim: int) -> None:
    config = WanFunConfig(width=128, num_heads=1, num_blocks=2, ffn_dim=ffn_dim, text_dim=8, image_dim=8)
    dit = WanFunDiT(config).bfloat16()
    tokens = torch.zeros(1, 4, 128, dtype=torch.bfloat16)
    camera = torch.zeros(1, 3, 24 * 24, 128, dtype=torch.bfloat16)
    latents = torch.zeros(1, 32, 3, 48, 48)
    with torch.no_grad(), peak(dit) as counted:
        dit(latents, torch.tensor([0.5]), tokens, tokens, camera)
    assert counted.peak == pytest.approx(transformer_activation_bytes(config, 3 * 24 * 24, 2), rel=0.1)


def test_the_encoder_takes_less_than_is_said_of_the_decoder(peak: Any) -> None:
    vae = VideoVAE(VideoVAEConfig(base_dim=16))
    with torch.no_grad():
        _, cache = vae.encode_chunk(torch.zeros(2, 3, 1, 64, 64), None)
        kept = sum(tensor.nbytes for tensor in cache.values())
        with peak(vae) as counted:
            vae.encode_chunk(torch.zeros(2, 3, 4, 64, 64), cache)
    assert (kept + counted.peak) / 2 < decoding_bytes(vae.config, 64, 64, 1, 4)


def test_offloading_leaves_one_block_on_the_device(published: Path) -> None:
    files, config, card = check_files(published), WanFunWorldConfig(height=32, width=48), torch.device("cuda")
    whole, offloaded = (memory_needs(files, config, card, offload) for offload in (False, True))
    sizes = [sum(weights.nbytes for weights in block.parameters()) for block in WanFunDiT(files.dit).blocks]
    assert whole["transformer"] - offloaded["transformer"] == sum(sizes) - sizes[0]
    assert sum(offloaded.values()) < sum(whole.values())


def test_too_little_memory_is_said_before_anything_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.world.open.memory_need._available", lambda device: 8_000_000_000)
    monkeypatch.setattr("model.world.open.wan_fun_folder.load_wan_fun", None)
    settings = yaml.safe_load((copy / "world.yaml").read_text())
    (copy / "world.yaml").write_text(yaml.safe_dump(settings | {"height": 2160, "width": 3840}))
    with pytest.raises(ValueError, match=r"^world: .*device: expected \d+\.\d GB on cpu .*; try a smaller") as caught:
        load_world(copy)
    assert "\n" not in str(caught.value)


def test_loaded_networks_are_checked_again_for_a_larger_picture(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_world(copy)
    monkeypatch.setattr("model.world.open.memory_need._available", lambda device: 8_000_000_000)
    settings = yaml.safe_load((copy / "world.yaml").read_text())
    (copy / "world.yaml").write_text(yaml.safe_dump(settings | {"height": 2160, "width": 3840}))
    with pytest.raises(ValueError, match=r"^world: .*device: expected \d+\.\d GB on cpu"):
        load_world(copy)


def test_blocks_are_lent_and_come_home() -> None:
    network = nn.Linear(2, 2)
    weight = network.weight
    with on_device(network, torch.device("meta")):
        assert {each.device.type for each in network.parameters()} == {"meta"}
    assert network.weight is weight
    with pytest.raises(RuntimeError), on_device(network, torch.device("meta")):
        raise RuntimeError
    assert network.weight is weight


def test_a_transformer_lends_each_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = WanFunConfig(width=12, num_heads=1, num_blocks=3, ffn_dim=8, text_dim=8, image_dim=8)
    dit, asked = WanFunDiT(config), []
    monkeypatch.setattr(
        "model.dit.wan_fun.on_device", lambda block, device: asked.append(block) or on_device(block, device)
    )
    tokens = torch.zeros(1, 4, 12)
    dit(torch.zeros(1, 32, 1, 2, 2), torch.tensor([0.5]), tokens, tokens, torch.zeros(1, 1, 1, 12))
    assert asked == list(dit.blocks)


def test_offloading_has_no_effect_on_the_cpu(published: Path) -> None:
    import gymnasium as gym

    import cc2env

    with pytest.raises(ValueError, match="offload: expected false on the CPU"):
        gym.make(cc2env.ENV_ID, world=str(published), offload=True)


def test_the_page_s_table_of_memory(diffsynth: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"width": 5120, "num_heads": 40, "num_blocks": 40, "ffn_dim": 13824}
    shapes = {
        "1.3B": WanFunConfig(),
        "14B": WanFunConfig(**large),
        "2.2 A14B": WanFunConfig(**large, in_channels=36, image_dim=0),
    }
    with torch.device("meta"):
        image = diffsynth.wan_video_image_encoder.VisionTransformer(
            224, 14, 1280, 4, 1024, num_heads=16, num_layers=32, activation="gelu"
        )
        parts = {
            "vae": VideoVAE(VideoVAEConfig()).state_dict(),
            "text": diffsynth.wan_video_text_encoder.WanTextEncoder().bfloat16().state_dict(),
            "image": {f"visual.{name}": weights.half() for name, weights in image.state_dict().items()},
        }
        parts |= {size: WanFunDiT(config).bfloat16().state_dict() for size, config in shapes.items()}
    monkeypatch.setattr(f"{FOLDER}.stored_tensors", lambda path: parts[path.name])
    monkeypatch.setattr(f"{FOLDER}.weight_files", lambda folder: [folder])
    monkeypatch.setattr(f"{FOLDER}.original_vae_config", lambda path: VideoVAEConfig())
    rows = []
    for size, config in shapes.items():
        image_encoder, num_experts = (Path("image"), 1) if config.image_dim else (None, 2)
        files = WanFunFiles((Path(size),) * num_experts, config, Path("vae"), Path("text"), image_encoder)
        for offload in (False, True):
            needs = memory_needs(files, WanFunWorldConfig(), torch.device("cuda"), offload)
            figures = [f"{each / 1e9:.1f}" for each in (*needs.values(), sum(needs.values()))]
            rows.append(" | ".join([f"| {size}", "yes" if offload else "no", *figures]) + " |")
    assert "\n".join(rows) in PAGE.read_text(encoding="utf-8"), rows
