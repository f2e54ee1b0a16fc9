"""The table of samplers: every row is one world's, flown and timed beside the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from model.build import SamplerTableConfig
from model.cli.evaluate import run_distillation
from model.evaluation.sampler_table import sampler_sheet, sampler_table


def settings(*given: str) -> SamplerTableConfig:
    without = ["camera=false", "motion=false", "prompts=false", "timing_rounds=1"]
    without += ["~rows.teacher", "~rows.quality", "~rows.default", "~rows.fast"]
    with initialize_config_module(config_module="configs", version_base=None):
        config = OmegaConf.to_object(compose("evaluate_distillation", [*without, *given]))
    assert isinstance(config, SamplerTableConfig)
    return config


def test_rows_are_flown_timed_and_written(random_world: Any, tmp_path: Path) -> None:
    folder, out = random_world.save(tmp_path / "world"), tmp_path / "table.json"
    slow = f"slow:{{world:{folder},sampler_steps:6}}"
    quick = f"quick:{{world:{folder},sampler_steps:1,guidance_text:1,guidance_camera:1}}"
    config = settings(f"+rows={{{slow},{quick}}}", "num_scenes=2", "num_clips=2", f"out={out}")
    slow, quick = run_distillation(config)
    assert (slow["name"], slow["evaluations"], quick["evaluations"]) == ("slow", 18, 1)
    assert slow["times_as_fast"] == 1 and quick["times_as_fast"] > 1.5 and quick["network_ms"] < slow["network_ms"]
    assert len(slow["share"]) == len(slow["edges"]) == 2 and isinstance(slow["psnr_known"], float)
    written = json.loads(out.read_text())
    assert written["rows"] == [slow, quick] and written["config"]["num_clips"] == 2
    assert out.with_suffix(".md").read_text().count("\n") == 4
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (3 * 32, 2 * 3 * 16)  # first frame and two clips; truth and two rows in each of two scenes


def test_what_cannot_be_compared_is_named(random_world: Any, tmp_path: Path) -> None:
    folder = random_world.save(tmp_path / "world")
    with pytest.raises(ValueError, match=r"^rows, timing_rounds: expected a row or more"):
        run_distillation(settings(f"out={tmp_path}/table.json"))
    with pytest.raises(ValueError, match=r"^rows.a.world: expected a learned world, got 'synthetic'"):
        run_distillation(settings("+rows={a:{world:synthetic}}", f"out={tmp_path}/table.json"))
    with pytest.raises(ValueError, match=r"^rows: expected worlds of one size and clip length, got .*'tiny'"):
        run_distillation(settings(f"+rows={{a:{{world:{folder}}},tiny:{{world:tiny}}}}", f"out={tmp_path}/table.json"))


def test_a_cell_shows_the_first_fourth_and_late_clips() -> None:
    table = sampler_table([{"name": "one", "share": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], "edges": None}])
    assert "| 1.00, 4.00, 8.50 |" in table and table.splitlines()[2].startswith("| one | - | - |")


def test_the_sheet_has_a_line_of_truth_before_every_scenes_samplers() -> None:
    true, film = torch.zeros(2, 9, 4, 5, 3, dtype=torch.uint8), torch.ones(2, 9, 4, 5, 3, dtype=torch.uint8)
    sheet = sampler_sheet({"one": film}, true, 4)
    assert sheet.shape == (16, 15, 3) and sheet[:, 0, 0].tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
