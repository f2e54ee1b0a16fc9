"""The paper's tables: arms start alike and differ in what they say; a killed table goes on with the arm it was at."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from model.checkpoint import load_component
from model.cli import tables
from model.cli.tables import TablesConfig, arms_of, load_start, make_table
from model.dit.video_dit import VideoDiT, VideoDiTConfig


def settings(table: int, *given: str) -> TablesConfig:
    with initialize_config_module(config_module="configs.tables", version_base=None):
        config = OmegaConf.to_object(compose("config", [f"table='{table}'", *given]))
    assert isinstance(config, TablesConfig)
    return config


@pytest.mark.parametrize("table", [2, 3, 4, 5])
@torch.no_grad()
def test_every_arm_differs_from_the_full_method_and_starts_as_the_same_network(table: int, tmp_path: Path) -> None:
    config = settings(table, f"out={tmp_path}", "num_seeds=1")
    start = load_start(config)
    arms = arms_of(config, start)
    assert [arm.name for arm in arms] == list(config.arms) == list(config.paper)
    inputs = (torch.randn(1, 16, 2, 6, 10), torch.tensor([0.7]), torch.randn(1, 24, 64))
    plain = start.dit(*inputs)
    for arm in arms:
        start.write(arm)
        dit = load_component(arm.folder / "start/dit", VideoDiTConfig, VideoDiT)
        num_maps = 12 if dit.config.camera_injection == "motionctrl" else 6
        assert torch.equal(dit(*inputs, torch.randn(1, 2, num_maps, 6, 10)), plain)
        full = arms[0].train
        same = [
            arm.train.data == full.data,
            arm.train.diffusion == full.diffusion,
            arm.train.sampler == full.sampler,
        ]
        assert (all(same) and not arm.dit) == (arm is arms[0])


def test_tables_in_one_folder_share_the_training_of_the_full_method(tmp_path: Path) -> None:
    full = []
    for table in (2, 3, 4, 5):
        config = settings(table, f"out={tmp_path}", "num_seeds=1")
        full.append(arms_of(config, load_start(config))[0])
    assert full[0].name == "full" and all(arm == full[0] for arm in full)


def quick(start: Path, out: Path, *given: str) -> TablesConfig:
    sizes = ["num_scenes=2", "num_clips=1", "num_seeds=1", "train.data.clips.num_clips=8", "train.training.num_steps=2"]
    sizes += ["train.training.batch_size=2", "train.training.fit.schedule.warmup_steps=1", "train.sampler.num_steps=1"]
    return settings(2, f"start={start}", "start_sampler=default", "only=[motionctrl]", f"out={out}", *sizes, *given)


def test_a_killed_table_goes_on_with_the_arm_it_was_at(
    random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, out = random_world.save(tmp_path / "start"), tmp_path / "table"
    trained: list[str] = []
    train = tables.train

    def watched(config: Any) -> Path:
        trained.append(Path(config.out).parent.name)
        if trained == ["full", "motionctrl"]:
            raise KeyboardInterrupt
        return train(config)

    monkeypatch.setattr(tables, "train", watched)
    with pytest.raises(KeyboardInterrupt):
        make_table(quick(start, out))
    assert not (out / "table_2.md").exists()
    table = make_table(quick(start, out))
    assert trained == ["full", "motionctrl", "motionctrl"]
    assert make_table(quick(start, out)) == table == (out / "table_2.md").read_text() and len(trained) == 3
    rows = json.loads((out / "table_2.json").read_text())["rows"]
    assert list(rows) == ["full", "motionctrl"] and rows["full"] != rows["motionctrl"]
    assert set(rows["full"][0]) >= {"frechet_lab", "motion_ratio", "search_rot_err_deg", "lab_consistency", "psnr"}
    assert "| motionctrl | 1 | " in table and "**within chance** (frechet_lab" in table and "one seed" in table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("num_seeds=0", "num_seeds: expected at least 1"),
        ("only=[every]", "only: expected arms of this table"),
        ("train.vae=folder", r"train\.vae: expected none"),
        ("+arms.full={diffusion:{nothing:1}}", "nothing"),
    ],
)
def test_what_cannot_be_is_named(given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OmegaConfBaseException), match=message):
        config = settings(2, f"out={tmp_path}", given)
        arms_of(config, load_start(config))
