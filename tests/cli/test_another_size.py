"""A trained world goes on at another height and width: positions are interpolated, everything else is the parent's."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cc2env
from model.build import TrainConfig
from model.checkpoint import load_component, load_config, load_meta
from model.cli.fine_tuning import starting_point
from model.cli.train import train
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.latent_set import weights_fingerprint
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import read_world_config
from model.world.folder import world_fingerprint, world_folder

SMALL_RUN = ["training.num_steps=2", "training.batch_size=1", "training.fit.accumulation=2", "num_preview_scenes=1"]


def composed(*overrides: str) -> TrainConfig:
    with initialize_config_module(config_module="configs.train", version_base=None):
        config = OmegaConf.to_object(compose("config", list(overrides)))
    assert isinstance(config, TrainConfig)
    return config


def test_the_grid_of_twice_the_tokens_has_half_the_distances() -> None:
    config, world = starting_point(composed("experiment=small"))
    assert config.dit.rope_scale == [1.0, 0.5, 0.5] and (world.height, world.width) == (96, 160)
    parent = load_config(world_folder("tiny") / "quality", VideoDiTConfig)
    assert config.dit == dataclasses.replace(parent, rope_scale=[1.0, 0.5, 0.5])
    assert parent.rope_scale == [1.0, 1.0, 1.0]  # a folder from before there was this setting
    assert Path(str(config.initial_dit)).name == "quality"
    quality = read_world_config(world_folder("tiny")).sampler_named("quality")
    assert (world.opening, world.samplers) == (quality.opening, {}) and world.sampler.num_steps == 4


def test_the_world_keeps_the_sampler_that_it_had_unless_another_is_given() -> None:
    parent = read_world_config(world_folder("tiny"))
    assert starting_point(composed("experiment=finetune"))[1].sampler == parent.sampler
    config, world = starting_point(composed("experiment=finetune", "sampler.num_steps=2"))
    assert config.sampler == world.sampler and world.sampler.num_steps == 2 and world.opening == parent.opening


def test_rows_and_columns_are_scaled_each_by_its_own_ratio_and_on_top_of_the_parents() -> None:
    config, _ = starting_point(composed("experiment=small", "data.clips.height=72", "data.clips.width=80"))
    np.testing.assert_allclose(config.dit.rope_scale, [1.0, 48 / 72, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["experiment=small", "data.clips.fps=24"], r"data\.clips\.fps: expected 12"),
        (["experiment=small", "initial_sampler=slow"], r"sampler: expected one of this world's, .*got 'slow'"),
        (["experiment=debug", "initial_sampler=fast"], r"initial_sampler: expected none without initial_world"),
    ],
)
def test_what_does_not_fit_is_named(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        starting_point(composed(*options))


def test_a_size_that_does_not_divide_into_tokens_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="height, width: expected multiples of 8 and 8, got 100 and 160"):
        train(composed("experiment=small", "data.clips.height=100", f"out={tmp_path}"))
    assert not list(tmp_path.iterdir())


def test_a_world_of_wans_shapes_is_trained_at_another_size_and_flies(random_world: Any, tmp_path: Path) -> None:
    parent = random_world.save(tmp_path / "parent")  # patches of 1x2x2, no cameras in attention
    size = ["data.clips.height=32", "data.clips.width=48", "data.clips.num_clips=2", "data.num_workers=1"]
    options = [f"initial_world={parent}", "initial_sampler=null", f"data.render_into={tmp_path}/data"]
    folder = train(composed("experiment=small", *options, *size, *SMALL_RUN, f"out={tmp_path}/run"))
    old, new = (load_component(where / "dit", VideoDiTConfig, VideoDiT) for where in (parent, folder))
    assert new.config == dataclasses.replace(old.config, rope_scale=[1.0, 0.5, 32 / 48])
    before, after = (torch.cat([p.detach().flatten() for p in dit.parameters()]) for dit in (old, new))
    assert 0 < float((after - before).norm() / before.norm()) < 0.05  # it has learned, and it has not begun anew
    vaes = [load_component(where / "vae", VideoVAEConfig, VideoVAE) for where in (parent, folder)]
    assert vaes[0].config == vaes[1].config
    env = gym.make(cc2env.ENV_ID, world=str(folder))
    env.reset(seed=0)
    clip = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    assert clip.shape[1:] == (32, 48, 3) and clip.std() > 0
    named = {"world": str(parent), "sampler": "default", "fingerprint": world_fingerprint(parent)}
    assert load_meta(folder / "dit")["parent"] == {**named, "height": 16, "width": 32}
    assert f"Parent: the world `{parent}` of 16x32" in (folder / "card.md").read_text()


@pytest.mark.slow
def test_the_shipped_world_goes_on_at_four_times_the_pixels(tmp_path: Path) -> None:
    data = [f"data.render_into={tmp_path}/data", "data.clips.num_clips=2", "data.mirror=false"]
    run = [f"out={tmp_path}/run", "training.fit.sample_every=0", "training.num_steps=1"]
    run += ["training.fit.accumulation=1", "sampler.num_steps=1", "diffusion.channel_weight_power=0"]
    folder = train(composed("experiment=small", *data, *SMALL_RUN, *run))
    vaes = [load_component(where / "vae", VideoVAEConfig, VideoVAE) for where in (world_folder("tiny"), folder)]
    assert weights_fingerprint(vaes[0]) == weights_fingerprint(vaes[1])
    env = gym.make(cc2env.ENV_ID, world=str(folder), sampler_steps=1, guidance_text=1.0, guidance_camera=1.0)
    env.reset(seed=0, options={"image": np.zeros((96, 160, 3), np.uint8)})
    assert env.step(np.zeros(env.action_space.shape, np.float32))[0].shape[1:] == (96, 160, 3)
