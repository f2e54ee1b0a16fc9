"""The commands from end to end: from nothing to a world folder that an environment flies through."""

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cc2env  # noqa: F401
from model.build import OracleConfig, TrainConfig, TrainVAEConfig
from model.checkpoint import load_component, load_meta, load_training_state, save_component, save_training_state
from model.cli.evaluate import run_oracle
from model.cli.train import train
from model.cli.train_vae import train_vae
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.latent_set import encoder_fingerprint
from model.training.run_folder import STATE_FILE
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import read_world_config


def composed(main: str, *overrides: str) -> object:
    with initialize_config_module(config_module=f"configs.{main}", version_base=None):
        return OmegaConf.to_object(compose("config", list(overrides)))


def train_in(folder: Path, out: Path, *overrides: str) -> Path:
    """Trains, or goes on training, a world on the clips and the VAE of `trained`."""
    data, vae = f"data.render_into={folder}/data", f"vae={folder}/vae/vae"
    config = composed("train", "experiment=debug", data, vae, f"out={out}", "num_preview_scenes=2", *overrides)
    assert isinstance(config, TrainConfig)
    return train(config)


def learn_decoder(folder: Path, out: Path, world: Path) -> None:
    """Fine-tunes the world's decoder and installs it."""
    options = [f"data.render_into={folder}/data", f"out={out}", f"generator={world}", "install=true"]
    config = composed("train_vae", "experiment=debug", *options, "training.num_steps=2")
    assert isinstance(config, TrainVAEConfig)
    train_vae(config)


def change_encoder(folder: Path) -> Path:
    """Makes the VAE of this component another one."""
    vae = load_component(folder, VideoVAEConfig, VideoVAE)
    with torch.no_grad():
        next(vae.encoder.parameters()).add_(0.01)
    save_component(folder, vae, vae.config, load_meta(folder))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VAE and a world made by `experiment=debug`."""
    folder = tmp_path_factory.mktemp("run")
    data = f"data.render_into={folder}/data"
    vae_config = composed("train_vae", "experiment=debug", data, f"out={folder}/vae", "training.num_steps=2")
    assert isinstance(vae_config, TrainVAEConfig)
    train_vae(vae_config)
    train_in(folder, folder / "run", "training.num_steps=4", "training.fit.sample_every=2")
    return folder


@pytest.mark.slow
def test_training_leaves_a_world_that_the_environment_flies_through(trained: Path) -> None:
    env = gym.make("CameraCtrlWorld-v0", world=str(trained / "run" / "world"))
    first, info = env.reset(seed=1)
    assert info["prompt"]
    clip, *_ = env.step(np.zeros(env.action_space.shape, np.float32))
    assert clip.shape == first.shape == env.observation_space.shape
    assert not np.array_equal(clip, first)


@pytest.mark.slow
@pytest.mark.parametrize("stored_in", [torch.float16, torch.float32])
def test_a_decoder_learns_from_its_world_which_stays_valid(
    trained: Path, tmp_path: Path, stored_in: torch.dtype
) -> None:
    world = shutil.copytree(trained / "run" / "world", tmp_path / "world")
    if stored_in == torch.float32:
        shutil.rmtree(world / "vae")
        shutil.copytree(trained / "vae" / "vae", world / "vae")
    before = load_component(world / "vae", VideoVAEConfig, VideoVAE)
    learn_decoder(trained, tmp_path / "decoder", world)
    after = load_component(world / "vae", VideoVAEConfig, VideoVAE)
    assert load_meta(world / "vae") == {
        **load_meta(trained / "vae" / "vae"),
        "decoder": load_meta(tmp_path / "decoder/vae"),
    }
    video = torch.rand(1, 3, 5, 48, 80) * 2 - 1
    assert encoder_fingerprint(before) == encoder_fingerprint(after) and torch.equal(
        before.encode(video), after.encode(video)
    )
    assert not torch.equal(before.decode(before.encode(video)), after.decode(before.encode(video)))


@pytest.mark.slow
def test_decoder_fine_tuning_of_another_world_is_neither_continued_nor_installed(trained: Path, tmp_path: Path) -> None:
    world = shutil.copytree(trained / "run" / "world", tmp_path / "world")
    learn_decoder(trained, tmp_path / "decoder", world)
    learn_decoder(trained, tmp_path / "decoder", world)  # with its new decoder it is still the same world
    dit = load_component(world / "dit", VideoDiTConfig, VideoDiT)
    with torch.no_grad():
        next(dit.parameters()).add_(0.01)
    save_component(world / "dit", dit, dit.config)
    with pytest.raises(ValueError, match=r"^dit: expected the one .*another out="):
        learn_decoder(trained, tmp_path / "decoder", world)
    change_encoder(world / "vae")
    others = encoder_fingerprint(load_component(world / "vae", VideoVAEConfig, VideoVAE))
    with pytest.raises(ValueError, match=rf"^vae: expected the one .*got another .*{others}.*another out="):
        learn_decoder(trained, tmp_path / "decoder", world)
    state = load_training_state(tmp_path / "decoder" / STATE_FILE)
    del state["numbers"]["inputs"]  # as checkpoints were before
    save_training_state(tmp_path / "decoder" / STATE_FILE, state)
    with pytest.raises(ValueError, match=rf"^install: expected the encoder .*{others}.*another out="):
        learn_decoder(trained, tmp_path / "decoder", world)
    assert encoder_fingerprint(load_component(world / "vae", VideoVAEConfig, VideoVAE)) == others


@pytest.mark.slow
def test_a_world_is_not_continued_beside_another_vae(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    vae = change_encoder(shutil.copytree(trained / "vae" / "vae", tmp_path / "vae"))
    before, encoded = (run / "world/vae/weights.safetensors").read_bytes(), sorted((trained / "data").glob("latents*"))
    for steps in (4, 6):  # finished, and not
        with pytest.raises(ValueError, match=rf"^vae: expected the one .*{STATE_FILE} .*another out="):
            train_in(trained, run, f"vae={vae}", f"training.num_steps={steps}")
    assert (run / "world/vae/weights.safetensors").read_bytes() == before
    assert sorted((trained / "data").glob("latents*")) == encoded  # it is said before anything is encoded


@pytest.mark.slow
def test_every_preview_is_one_line_also_after_a_kill(trained: Path, tmp_path: Path) -> None:
    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in (run / "samples" / "curve.jsonl").read_text().splitlines()]

    run = shutil.copytree(trained / "run", tmp_path / "run")
    assert steps() == [2, 4]
    with (run / "samples" / "curve.jsonl").open("a") as curve:
        curve.write('{"step": 5}\n{"step": 6')  # of a process that was killed later than its last checkpoint
    train_in(trained, run, "training.num_steps=4", "training.fit.sample_every=2")
    assert steps() == [2, 4]
    train_in(trained, run, "training.num_steps=5", "training.fit.sample_every=null")
    assert steps() == [2, 4, 5]


@pytest.mark.slow
def test_text_to_video_alone_is_trained_and_previewed(trained: Path, tmp_path: Path) -> None:
    shares = ("diffusion.context_shares={0:1,1:0,4:0}", "diffusion.memory_latents=0")
    world = train_in(trained, tmp_path, *shares, "training.num_steps=2", "training.fit.sample_every=0")
    assert read_world_config(world).context_latents == 1 and load_meta(world / "dit")["steps"] == 2


@pytest.mark.slow
def test_training_leaves_curves_pictures_and_figures(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "run" / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert {p.name for p in (trained / "run" / "samples").glob("*.png")} == {"step_000002.png", "step_000004.png"}
    meta = json.loads((trained / "run" / "world" / "dit" / "meta.json").read_text())
    assert meta["steps"] == 4
    # the VAE in the world says what made it, not what made the DiT
    assert load_meta(trained / "run" / "world" / "vae") == load_meta(trained / "vae" / "vae")


@pytest.mark.slow
def test_a_decoder_that_goes_on_learning_leaves_the_latents_as_they_are(trained: Path) -> None:
    before = trained / "vae" / "vae"
    options = [
        f"data.render_into={trained}/data",
        f"out={trained}/vae_2",
        f"initial_vae={before}",
        "freeze_encoder=true",
    ]
    config = composed("train_vae", "experiment=debug", *options, "training.num_steps=2")
    assert isinstance(config, TrainVAEConfig)
    after = train_vae(config)
    old, new = (load_component(folder, VideoVAEConfig, VideoVAE) for folder in (before, after))
    video = torch.rand(1, 3, 5, 48, 80) * 2 - 1
    with torch.no_grad():
        latents = old.encode(video)
        assert torch.equal(new.encode(video), latents)
        assert not torch.equal(new.decode(latents), old.decode(latents))


@pytest.mark.slow
def test_the_oracle_writes_the_promised_json(trained: Path) -> None:
    out = trained / "oracle.json"
    run_oracle(OracleConfig(world=str(trained / "run" / "world"), num_scenes=2, num_clips=2, out=str(out)))
    report = json.loads(out.read_text())
    assert {"psnr_first_clip", "psnr_hold", "psnr_wrong_trajectory", "vae_psnr"} <= report["summary"].keys()
    assert report["config"]["num_scenes"] == len(report["per_scene"]) == 2
    assert all(len(scene["psnr"]["generated"]) == 2 for scene in report["per_scene"])
    assert out.with_suffix(".md").exists()
    assert out.with_suffix(".png").exists()
