"""A learned world of a few thousand random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import TextEncoderConfig, WorldConfig
from model.world.load import build_text_encoder, save_world


def _randomise(module: torch.nn.Module, std: float) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        # zero-initialised layers too: an identity network would hide mistakes
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    module.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def dit() -> VideoDiT:
    dit = VideoDiT(
        VideoDiTConfig(
            in_channels=4, out_channels=4, width=24, num_heads=2, num_blocks=1, ffn_dim=32, text_dim=8, freq_dim=8
        )
    )
    _randomise(dit, std=0.2)
    return dit


@pytest.fixture(scope="session")
def vae() -> VideoVAE:
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1]))
    _randomise(vae, std=0.15)
    return vae


@pytest.fixture(scope="session")
def config() -> WorldConfig:
    return WorldConfig(
        height=16,
        width=32,
        sampler=SamplerConfig(num_steps=2, guidance_text=2.0, guidance_camera=3.0),
        text_encoder=TextEncoderConfig(vocabulary=["red", "blue", "box", "dome"], dim=8, num_tokens=4),
        default_prompts=["red box", "blue dome", "blue box"],
    )


@pytest.fixture(scope="session")
def make_world(dit: VideoDiT, vae: VideoVAE, config: WorldConfig) -> Callable[..., CameraWorld]:
    def make(network: VideoDiT = dit, **settings: object) -> CameraWorld:
        encoder = build_text_encoder(config.text_encoder, Path("."))
        arguments = {"sampler": config.sampler, "default_prompts": config.default_prompts, **settings}
        return CameraWorld(network, vae, encoder, config.spec(), **arguments)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., CameraWorld]) -> CameraWorld:
    return make_world()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, dit: VideoDiT, vae: VideoVAE, config: WorldConfig) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_world(folder, dit, vae, config, meta={"steps": 0}, card="# Random weights", dtype=None)
    return folder
