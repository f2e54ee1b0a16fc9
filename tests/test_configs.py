"""Every YAML file of every group composes with its command's schema, and what a training's file names can be built."""

import dataclasses
import importlib
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from model.build import DistillConfig, TrainAdversarialConfig, TrainConfig, TrainDepthConfig, TrainVAEConfig
from model.dit.video_dit import VideoDiT
from model.training.stage import train_state
from model.vae.latent_depth import LatentDepth
from model.vae.video_vae import VideoVAE

_TRAININGS = ("train_vae", "train", "plan", "distill", "adversarial", "train_depth", "train_lab_network")
for _verb in (*_TRAININGS, "encode", "evaluate", "tables", "curate"):
    importlib.import_module(f"model.cli.{_verb}")  # each command registers its schema
for _verb in ("explore", "fly", "gallery", "reconstruct", "evaluate", "train_ppo"):
    importlib.import_module(f"agents.{_verb}")

CONFIGS = Path(__file__).parents[1] / "configs"
# the command's own file, for each group of presets
GROUPS = {
    "agent": "explore",
    "env": "explore",
    "task": "train_ppo",
    "train/experiment": "train/config",
    "train_vae/experiment": "train_vae/config",
    "train_depth/experiment": "train_depth/config",
    "distill/experiment": "distill/config",
    "adversarial/experiment": "adversarial/config",
    "tables/table": "tables/config",
    "tables/budget": "tables/config",
}
FILES = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))


def composed(file: str) -> object:
    """The settings that a file gives: a command's own file alone, a preset in the command of its group."""
    group, _, preset = file.rpartition("/")
    command = GROUPS.get(group, file)
    overrides = [f"{group.rpartition('/')[2]}='{preset}'"] if group in GROUPS else []
    folder, _, name = command.rpartition("/")
    with hydra.initialize_config_module(".".join(["configs", *folder.split("/")]).rstrip("."), version_base=None):
        config = hydra.compose(name, overrides)
        for key in OmegaConf.missing_keys(config):  # folders, which only the user can name
            OmegaConf.update(config, key, "folder")
        return OmegaConf.to_object(config)


def test_every_file_is_in_a_group_or_a_command() -> None:
    assert len(FILES) > 30 and set(GROUPS) <= {file.rpartition("/")[0] for file in FILES}


@pytest.mark.parametrize("file", [file for file in FILES if file.rpartition("/")[0] not in GROUPS])
def test_no_option_of_a_command_is_taken_for_a_group(file: str) -> None:
    """Hydra reads `task=GoalView` as a preset where a folder `task` lies beside the command's file."""
    folders = {path.name for path in (CONFIGS / file).parent.iterdir() if path.is_dir()}
    own = {group.rpartition("/")[2] for group, command in GROUPS.items() if command == file}
    assert not {field.name for field in dataclasses.fields(composed(file))} & (folders - own)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", FILES)
def test_a_file_composes_and_builds(file: str) -> None:
    settings = composed(file)
    assert not isinstance(settings, dict)  # the schema's own class, whose checks ran
    trainings = TrainConfig | TrainVAEConfig | TrainDepthConfig | DistillConfig | TrainAdversarialConfig
    if not isinstance(settings, trainings):
        return
    with torch.device("meta"):
        if isinstance(settings, TrainConfig):
            network: torch.nn.Module = VideoDiT(settings.dit)
        elif isinstance(settings, TrainVAEConfig):
            network = VideoVAE(settings.vae)
        elif isinstance(settings, TrainDepthConfig):
            network = LatentDepth(settings.depth)
        else:
            network = VideoDiT(TrainConfig().dit)  # the student has its teacher's shape, whose folder is not there
    train_state(network, settings.training, settings.seed)
