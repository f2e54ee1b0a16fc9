"""Wrong input to a command ends it with one line that names the setting; nothing is made on the way."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import cc2env  # noqa: F401
from model.build import TrainConfig, TrainDepthConfig, TrainVAEConfig
from model.checkpoint import load_component
from model.cli.fine_tuning import starting_point
from model.cli.train import check_settings, train
from model.cli.train_vae import train_vae
from model.vae.video_vae import VideoVAE, VideoVAEConfig

ROOT = Path(__file__).parents[2]
SHIPPED_VAE = f"vae={ROOT / 'model/pretrained/tiny/vae'}"


def composed(main: str, *overrides: str) -> object:
    with initialize_config_module(config_module=f"configs.{main}", version_base=None):
        return OmegaConf.to_object(compose("config", list(overrides)))


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


def test_unknown_settings_are_refused_by_the_schemas() -> None:
    for main in ("train", "train_vae"):
        for override in ("training.learning_speed=1", "training.num_steps=many"):
            with pytest.raises((OmegaConfBaseException, HydraException, ValueError)):
                composed(main, override)


def test_networks_of_convolutions_are_trained_without_muon() -> None:
    for experiment in ("debug", "tiny", "tiny_gpu", "tiny_decoder"):
        config = composed("train_vae", f"experiment={experiment}")
        assert isinstance(config, TrainVAEConfig) and not config.training.optimizer.muon
    assert not TrainVAEConfig().training.optimizer.muon and not TrainDepthConfig().training.optimizer.muon


def test_settings_are_checked_without_a_random_number_drawn() -> None:
    config = composed("train", "experiment=debug")
    assert isinstance(config, TrainConfig)
    vae = load_component(ROOT / "model/pretrained/tiny/vae", VideoVAEConfig, VideoVAE)
    before = torch.get_rng_state()
    check_settings(config, vae, starting_point(config)[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_vae_is_named() -> None:
    config = composed("train", "experiment=debug", "vae=nowhere")
    assert isinstance(config, TrainConfig)
    with pytest.raises(FileNotFoundError, match="vae: expected a component folder"):
        train(config)


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("train", ["vae=nowhere"], "error: vae: expected a component folder"),
        (
            "train",
            ["vae=null"],
            "error: vae: expected the folder of a trained VAE, got none; name one, or",
        ),
        ("train", ["experiment=finetune"], "error: data.folder: expected a data set of films or a rendered clip set"),
        ("train", ["experiment=finetune", "vae=x"], "error: vae: expected none beside initial_world, whose own it is"),
        ("train", ["experiment=finetune", "text.dim=2"], "error: text: expected none beside initial_world"),
        ("train", ["experiment=finetune", "data.clips.fps=24"], "error: data.clips.fps: expected 12.0, the world's"),
        ("train", ["experiment=finetune", "initial_world=nowhere"], "error: world: expected 'tiny'"),
        ("train", ["sampler.num_steps=0"], "error: sampler_steps: expected a whole number"),
        (
            "train",
            [SHIPPED_VAE, "dit.in_channels=8", "dit.out_channels=8"],
            "error: dit.in_channels: expected 16, as many as the VAE's latents have, got 8; give dit.in_channels=16",
        ),
        ("train", [SHIPPED_VAE, "diffusion.density=uniforn"], "error: diffusion.density: expected logit_normal or"),
        ("train", [SHIPPED_VAE, "diffusion.shift=-1"], "error: shift: expected a positive number, got -1"),
        (
            "train",
            [SHIPPED_VAE, "diffusion.labelled_share=7"],
            "error: labelled_share: expected a number in [0, 1], got 7",
        ),
        ("train", [SHIPPED_VAE, "diffusion.text_dropout=5"], "error: text_dropout: expected a number in [0, 1], got 5"),
        ("train", [SHIPPED_VAE, "diffusion.context_shares={0:0,1:0,4:0}"], "error: context_shares: expected shares"),
        (
            "train",
            [SHIPPED_VAE, "+diffusion.context_shares={6:1}"],
            "error: context_shares, num_new: expected windows",
        ),
        ("train", [SHIPPED_VAE, "num_preview_scenes=0"], "error: num_preview_scenes: expected at least 1, got 0"),
        ("train", [SHIPPED_VAE, "training.optimizer.muon_lr=1e-3", "training.optimizer.muon=false"], "error: muon_lr:"),
        ("train", [SHIPPED_VAE, "dit.text_dim=8"], "error: text_encoder: expected width 8 like the DiT's, got 32"),
        ("train", ["training.fit.checkpoint_steps=0"], "error: checkpoint_steps: expected at least 1, got 0"),
        ("train", ["training.num_steps=0"], "error: training.num_steps: expected at least 1, got 0"),
        ("train_vae", ["training.batch_size=0"], "error: training.batch_size: expected at least 1, got 0"),
        ("train_vae", ["training.optimizer.muon=true"], "error: muon: expected hidden matrices"),
        ("train_vae", ["vae.dim_mult=[1]"], "error: temporal_downsample: expected 0 entries"),
        ("evaluate", [], "error: expected an evaluation, one of ['oracle'"),
        ("evaluate", ["oracle", "world=nowhere"], "error: world: expected 'tiny', 'small', 'synthetic'"),
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
    assert not list(tmp_path.iterdir())  # nothing was rendered first


@pytest.mark.parametrize("found", ["nothing", "an empty folder", "a file", "other files"])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train", [SHIPPED_VAE]),
        ("train", ["experiment=tiny", SHIPPED_VAE, "data.clips.num_latents=13"]),
        ("train_vae", []),
        ("train_depth", ["world=tiny"]),
        ("distill", ["experiment=tiny"]),
    ],
)
def test_a_folder_that_is_read_is_never_made(
    module: str, words: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if found == "a file":
        Path("clips").touch()
    elif found != "nothing":
        Path("clips").mkdir()
    if found == "other files":
        Path("clips/film.mp4").touch()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", [module, "data.folder=clips", *words])
    with pytest.raises(SystemExit, match=r"^error: data\.folder: expected a data set .*clips .*data\.render_into="):
        importlib.import_module(f"model.cli.{module}").main()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("module", ["train", "train_vae", "train_depth", "distill"])
def test_clips_are_rendered_only_into_a_named_folder(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = {"train": [SHIPPED_VAE], "train_vae": [], "train_depth": ["world=tiny"], "distill": ["experiment=tiny"]}
    monkeypatch.setattr(sys, "argv", [module, "data.render_into=null", *source[module]])
    with pytest.raises(SystemExit, match=r"^error: data\.folder: expected a data set of films or .*, got none"):
        importlib.import_module(f"model.cli.{module}").main()
    Path("films").mkdir()
    Path("films/manifest.jsonl").touch()
    monkeypatch.setattr(sys, "argv", [module, "data.render_into=films", *source[module]])
    with pytest.raises(SystemExit, match=r"^error: data\.render_into: expected a folder for rendered clips, films is"):
        importlib.import_module(f"model.cli.{module}").main()
    assert [path.name for path in tmp_path.rglob("*")] == ["films", "manifest.jsonl"]


def test_depth_is_not_learned_from_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.jsonl").touch()
    monkeypatch.setattr(sys, "argv", ["train_depth", f"data.folder={tmp_path}", "world=tiny"])
    with pytest.raises(SystemExit, match=r"^error: data\.folder: expected a rendered clip set, whose depth is known"):
        importlib.import_module("model.cli.train_depth").main()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train", [SHIPPED_VAE]),
        ("train", ["experiment=finetune"]),
        ("train_vae", []),
        ("train_depth", ["world=tiny"]),
        ("distill", ["experiment=tiny"]),
        ("evaluate", ["oracle"]),
        ("evaluate", ["blocked"]),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    module: str, words: list[str], device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *words, f"device={device}"])
    with pytest.raises(
        SystemExit, match=rf"^error: device: expected one that torch can use here, got '{device}'.*cpu'$"
    ):
        importlib.import_module(f"model.cli.{module}").main()
    assert not list(tmp_path.iterdir())
