"""The random world's parts, and worlds made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.dit.video_dit import VideoDiT
from model.vae.video_vae import VideoVAE
from model.world.camera_world import CameraWorld
from model.world.config import WorldConfig
from model.world.load import build_text_encoder


@pytest.fixture(scope="session")
def dit(random_world: Any) -> VideoDiT:
    return random_world.dit


@pytest.fixture(scope="session")
def vae(random_world: Any) -> VideoVAE:
    return random_world.vae


@pytest.fixture(scope="session")
def config(random_world: Any) -> WorldConfig:
    return random_world.config


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
def folder(tmp_path_factory: pytest.TempPathFactory, random_world: Any) -> Path:
    return random_world.save(tmp_path_factory.mktemp("world"))
