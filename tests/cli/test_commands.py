"""The commands from end to end: from nothing to a world folder that an environment flies through."""

import importlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import cc2env  # noqa: F401
from model.build import OracleConfig, TrainConfig, TrainVAEConfig
from model.checkpoint import load_component, load_meta
from model.cli.evaluate import run_oracle
from model.cli.train import mean_flops, train
from model.cli.train_vae import train_vae
from model.training.latent_set import fingerprint
from model.vae.video_vae import VideoVAE, VideoVAEConfig

ROOT = Path(__file__).parents[2]


def composed(main: str, *overrides: str) -> object:
    with initialize_config_module(config_module=f"configs.{main}", version_base=None):
        return OmegaConf.to_object(compose("config", list(overrides)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VAE and a world made by `experiment=debug`."""
    folder = tmp_path_factory.mktemp("run")
    data = f"data.folder={folder}/data"
    vae_config = composed("train_vae", "experiment=debug", data, f"out={folder}/vae", "training.num_steps=2")
    assert isinstance(vae_config, TrainVAEConfig)
    train_vae(vae_config)
    config = composed(
        "train",
        "experiment=debug",
        data,
        f"out={folder}/run",
        f"vae={folder}/vae/vae",
        "training.num_steps=4",
        "training.fit.sample_every=2",
        "num_preview_scenes=2",
    )
    assert isinstance(config, TrainConfig)
    train(config)
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
    config = composed(
        "train_vae",
        "experiment=debug",
        f"data.folder={trained}/data",
        f"out={tmp_path}/decoder",
        f"generator={world}",
        "install=true",
        "training.num_steps=2",
    )
    assert isinstance(config, TrainVAEConfig)
    before = load_component(world / "vae", VideoVAEConfig, VideoVAE)
    train_vae(config)
    after = load_component(world / "vae", VideoVAEConfig, VideoVAE)
    assert load_meta(world / "vae") == {
        **load_meta(trained / "vae" / "vae"),
        "decoder": load_meta(tmp_path / "decoder/vae"),
    }
    video = torch.rand(1, 3, 5, 48, 80) * 2 - 1
    assert fingerprint(before) == fingerprint(after) and torch.equal(before.encode(video), after.encode(video))
    assert not torch.equal(before.decode(before.encode(video)), after.decode(before.encode(video)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["generator=tiny", "initial_vae=elsewhere"], "initial_vae: expected none beside generator"),
        (["install=true"], "install: expected a generator"),
        (["generator=nowhere"], "world: expected 'tiny'"),
    ],
)
def test_a_decoder_of_no_world_or_of_two_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    config = composed("train_vae", "experiment=debug", f"out={tmp_path}", *overrides)
    assert isinstance(config, TrainVAEConfig)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_vae(config)


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
    options = [f"data.folder={trained}/data", f"out={trained}/vae_2", f"initial_vae={before}", "freeze_encoder=true"]
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


def test_unknown_settings_are_refused_by_the_schemas() -> None:
    for main in ("train", "train_vae"):
        for override in ("training.learning_speed=1", "training.num_steps=many"):
            with pytest.raises((OmegaConfBaseException, HydraException, ValueError)):
                composed(main, override)


def test_the_shipped_experiments_compose() -> None:
    assert isinstance(composed("train_vae", "experiment=tiny"), TrainVAEConfig)
    assert isinstance(composed("train", "experiment=tiny"), TrainConfig)


def test_a_missing_vae_is_named() -> None:
    config = composed("train", "experiment=debug", "vae=nowhere")
    assert isinstance(config, TrainConfig)
    with pytest.raises(FileNotFoundError, match="vae: expected a component folder"):
        train(config)


def test_console_scripts_exist() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_mean_flops_weigh_the_tasks_by_their_shares() -> None:
    from model.data.clips import ClipSetConfig
    from model.dit.video_dit import VideoDiT

    config = composed("train", "experiment=debug", "diffusion.context_shares={0:0.0,1:1.0,4:0.0}")
    assert isinstance(config, TrainConfig)
    dit = VideoDiT(config.dit)
    single = 3 * config.training.batch_size * dit.flops(5, 6, 10, config.text.num_tokens, num_context=1)
    assert mean_flops(config, ClipSetConfig(), dit, spatial_stride=8) == pytest.approx(single)


@pytest.mark.parametrize(
    ("module", "words", "options"),
    [
        ("train", [], ["experiment", "out", "vae", "initial_dit", "diffusion.context_shares", "training.num_steps"]),
        ("train_vae", [], ["experiment", "out", "window_latents", "freeze_encoder", "training.num_steps"]),
        ("evaluate", ["oracle"], ["world", "num_scenes", "num_clips", "out", "batch_size"]),
    ],
)
def test_help_names_the_options(
    module: str,
    words: list[str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *words, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        importlib.import_module(f"model.cli.{module}").main()
    said = capsys.readouterr().out
    assert all(f"{option}=" in said for option in options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("train", ["vae=nowhere"], "error: vae: expected a component folder"),
        ("train", ["sampler.num_steps=0"], "error: sampler_steps: expected a whole number"),
        (
            "train",
            [f"vae={ROOT / 'model/pretrained/tiny/vae'}", "dit.in_channels=8", "dit.out_channels=8"],
            "error: dit.in_channels: expected 16, as many as the VAE's latents have, got 8; give dit.in_channels=16",
        ),
        ("train_vae", ["vae.dim_mult=[1]"], "error: temporal_downsample: expected 0 entries"),
        ("evaluate", [], "error: expected an evaluation, one of ['oracle'"),
        ("evaluate", ["oracle", "world=nowhere"], "error: world: expected 'tiny', 'synthetic' or a folder"),
        ("evaluate", ["oracle", "world=synthetic", "num_scenes=0"], "error: num_scenes: expected at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(
    module: str, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}"):
        importlib.import_module(f"model.cli.{module}").main()
