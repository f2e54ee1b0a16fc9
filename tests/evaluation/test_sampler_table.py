"""The table of samplers: every row is one world's, flown and timed beside the others."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from model.build import SamplerTableConfig
from model.cli.evaluate import run_distillation
from model.evaluation import sampler_table as sampler_table_module
from model.evaluation.oracle import fly
from model.evaluation.prompts import ColourClassifier
from model.evaluation.sampler_table import sampler_sheet, sampler_table
from model.world.load import load_world


def settings(*given: str) -> SamplerTableConfig:
    without = ["camera=false", "caption_colours=false", "motion=false", "prompts=false", "timing_rounds=1"]
    without += ["~rows.teacher", "~rows.quality", "~rows.default", "~rows.fast"]
    with initialize_config_module(config_module="configs", version_base=None):
        config = OmegaConf.to_object(compose("evaluate_distillation", [*without, *given]))
    assert isinstance(config, SamplerTableConfig)
    return config


def test_rows_are_flown_timed_and_written(random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColourClassifier, "calibrated", partial(ColourClassifier.calibrated, num_scenes=48))  # quicker
    folder, out = random_world.save(tmp_path / "world"), tmp_path / "table.json"
    slow = f"slow:{{world:{folder},sampler_steps:6}}"
    quick = f"quick:{{world:{folder},sampler_steps:1,guidance_text:1,guidance_camera:1}}"
    config = settings(f"+rows={{{slow},{quick}}}", "caption_colours=true", "num_scenes=2", "num_clips=2", f"out={out}")
    slow, quick = run_distillation(config)
    assert (slow["name"], slow["evaluations"], quick["evaluations"]) == ("slow", 18, 1)
    a_clip = [row["network_ms"] + row["decoding_ms"] for row in (slow, quick)]  # each rounded to a tenth
    assert slow["times_as_fast"] == 1 and quick["times_as_fast"] == pytest.approx(a_clip[0] / a_clip[1], rel=0.1)
    assert len(slow["share"]) == len(slow["edges"]) == 2 and len(slow["psnr_known"]) == 2
    assert len(slow["caption_found"]) == len(slow["caption_named"]) == 2
    written = json.loads(out.read_text())
    assert written["rows"] == [slow, quick] and written["config"]["num_clips"] == 2
    assert out.with_suffix(".md").read_text().count("\n") == 4
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (3 * 32, 2 * 3 * 16)  # first frame and two clips; truth and two rows in each of two scenes


def test_a_killed_table_goes_on_with_the_row_it_was_at(
    random_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = random_world.save(tmp_path / "world")
    flown: list[str] = []

    def watched(*given: Any) -> torch.Tensor:
        flown.append(given[-1])
        if given[-1] == dies:
            raise KeyboardInterrupt
        return fly(*given)

    def table(*more: str, steps: int = 2) -> list[dict[str, Any]]:
        flown.clear()
        rows = f"+rows={{a:{{world:{folder},sampler_steps:1}},b:{{world:{folder},sampler_steps:{steps}}}}}"
        return run_distillation(settings(rows, "num_scenes=1", "num_clips=1", f"out={tmp_path}/table.json", *more))

    def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        timed = {"network_ms", "decoding_ms", "frames_per_second", "times_as_fast"}
        return [{name: value for name, value in row.items() if name not in timed} for row in rows]

    monkeypatch.setattr(sampler_table_module, "fly", watched)
    dies = "b"
    with pytest.raises(KeyboardInterrupt):
        table()
    assert flown == ["a", "b"] and not (tmp_path / "table.json").exists()
    dies = ""
    whole = table()
    assert flown == ["b"] and (tmp_path / "table.png").exists()
    assert figures(table()) == figures(whole) and flown == []
    # other measures of the same films; another sampler; another world of the same name
    assert figures(table("objects=false"))[0].get("share") is None and flown == []
    assert table(steps=3)[1]["evaluations"] == 9 and flown == ["b"]
    random_world.save(folder, dataclasses.replace(random_world.config, memory_latents=1))
    table()
    assert flown == ["a", "b"]


def test_what_cannot_be_compared_is_named(random_world: Any, tmp_path: Path) -> None:
    folder = random_world.save(tmp_path / "world")
    with pytest.raises(ValueError, match=r"^rows, timing_rounds: expected a row or more"):
        run_distillation(settings(f"out={tmp_path}/table.json"))
    with pytest.raises(ValueError, match=r"^rows.a.world: expected a learned world, got 'synthetic'"):
        run_distillation(settings("+rows={a:{world:synthetic}}", f"out={tmp_path}/table.json"))
    with pytest.raises(ValueError, match=r"^rows: expected worlds of one size and clip length, got .*'tiny'"):
        run_distillation(settings(f"+rows={{a:{{world:{folder}}},tiny:{{world:tiny}}}}", f"out={tmp_path}/table.json"))


def test_a_cell_shows_the_first_fourth_and_late_clips() -> None:
    table = sampler_table(
        [{"name": "one", "frames_found": [3, 4], "share": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], "edges": None}]
    )
    assert "| 1.00, 4.00, 8.50 |" in table and "| 3 of 4 |" in table
    assert table.splitlines()[2].startswith("| one | - | - |")


def test_the_sheet_has_a_line_of_truth_before_every_scenes_samplers() -> None:
    true, stills = torch.zeros(3, 9, 4, 5, 3, dtype=torch.uint8), torch.ones(3, 3, 4, 5, 3, dtype=torch.uint8)
    sheet = sampler_sheet({"one": stills}, true, 4, num_scenes=2)
    assert sheet.shape == (16, 15, 3) and sheet[:, 0, 0].tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4


def test_the_first_row_of_the_command_takes_the_papers_96_evaluations() -> None:
    with initialize_config_module(config_module="configs", version_base=None):
        config = OmegaConf.to_object(compose("evaluate_distillation"))
    assert isinstance(config, SamplerTableConfig) and next(iter(config.rows)) == "teacher"
    assert load_world("tiny", config.rows["teacher"]).spec.evaluations_per_clip == 96
    assert config.camera and config.objects and config.caption_colours and config.motion and config.prompts
