"""The depth head's command from end to end: trained, resumed, put into its world's folder, used by an environment."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cc2env
from model.build import TrainDepthConfig
from model.checkpoint import load_component, load_meta, save_component
from model.cli.train_depth import install, train_depth
from model.training.latent_set import encoder_fingerprint
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.folder import world_folder


@pytest.fixture
def world(tmp_path: Path, random_world: Any) -> Path:
    return random_world.save(tmp_path / "world")


def settings(world: Path, *more: str) -> TrainDepthConfig:
    given = [
        f"world={world}", f"out={world.parent}/run", f"data.render_into={world.parent}/data", "num_clips=4",
        "data.clips.num_clips=4", "data.clips.num_latents=5", "data.clips.shard_size=4",
        "data.clips.height=16", "data.clips.width=32", "depth.latent_channels=4", "training.num_steps=6",
    ]  # fmt: skip
    with initialize_config_module(config_module="configs.train_depth", version_base=None):
        config = OmegaConf.to_object(compose("config", ["experiment=debug", *given, *more]))
    assert isinstance(config, TrainDepthConfig)
    return config


@pytest.mark.slow
def test_a_head_is_trained_installed_and_stops_cameras(world: Path) -> None:
    depth = train_depth(settings(world))
    curve = [json.loads(line) for line in (world.parent / "run" / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == list(range(1, 7)) and curve[0]["near_error"] > 0
    meta = json.loads((depth / "meta.json").read_text())
    assert meta["steps"] == 6 and 0 < meta["error"] < 10
    with pytest.raises(ValueError, match=r"^collision: expected .* model\.cli\.train_depth"):
        gym.make(cc2env.ENV_ID, world=str(world), collision="stop")
    install(depth, str(world))
    env = gym.make(cc2env.ENV_ID, world=str(world), collision="stop")
    env.reset(seed=0)
    _, *_, info = env.step(np.tile(np.array([0, 0, 0.6, 0, 0, 0], np.float32), (4, 1)))
    assert info["blocked"] == (info["achieved_c2w"] != info["c2w"]).any()
    # the same again from its end: nothing is left to do, and the head is the same
    before = (depth / "weights.safetensors").read_bytes()
    assert (train_depth(settings(world)) / "weights.safetensors").read_bytes() == before
    # for another encoder's latents it is another head
    vae = load_component(world / "vae", VideoVAEConfig, VideoVAE)
    with torch.no_grad():
        next(vae.encoder.parameters()).add_(0.01)
    save_component(world / "vae", vae, vae.config)
    with pytest.raises(ValueError, match=r"^vae: expected the one .*another out="):
        train_depth(settings(world))


@pytest.mark.slow
def test_what_cannot_be_trained_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match=r"^depth.latent_channels: expected 4 like the VAE's, got 16"):
        train_depth(settings(world, "depth.latent_channels=16"))
    with pytest.raises(ValueError, match=r"^num_clips: expected at least 2"):
        train_depth(settings(world, "num_clips=1"))
    with pytest.raises(ValueError, match=r"^num_clips: expected 1 to 4, what the set holds, got 9"):
        train_depth(settings(world, "num_clips=9"))
    with pytest.raises(FileNotFoundError, match=r"^world: expected"):
        train_depth(settings(world, "world=/nowhere"))


def test_the_shipped_head_reads_the_shipped_latents() -> None:
    """Fails when the encoder was trained anew and the head was not: `train_depth experiment=tiny install=true`."""
    vae = load_component(world_folder("tiny") / "vae", VideoVAEConfig, VideoVAE)
    assert load_meta(world_folder("tiny") / "depth")["latents"] == encoder_fingerprint(vae)
