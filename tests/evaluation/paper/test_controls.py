"""The planted mistakes are what their names say; and the command runs from nothing to its table."""

import json

import pytest
import torch

pytest.importorskip("cv2")
pytest.importorskip("av")

from model.curation.steps import Tools
from model.curation.truth_films import TruthFilmsConfig
from model.estimators.motion_mask import EpipolarMotionMask
from model.estimators.optical_flow import DISFlow
from model.estimators.sfm import ReconstructionFailed
from model.evaluation.paper import controls
from model.evaluation.paper.controls import (
    ControlsConfig,
    measure_controls,
    measure_lab_network,
    turned,
    write_controls,
)
from model.evaluation.paper.network_controls import SPOILERS, shuffled
from model.geometry import se3
from model.geometry.alignment import trajectory_errors


def test_turned_poses_have_that_rot_err_and_no_other_error():
    path = se3.exp(torch.arange(9)[:, None] * torch.tensor([0.1, 0.05, 0.2, 0.1, -0.2, 0.0], dtype=torch.float64))
    errors = trajectory_errors(turned(path, 5.0), path)
    assert errors.rot_err == pytest.approx(5.0, abs=1e-4)
    assert errors.trans_err == pytest.approx(0.0, abs=1e-6)


def test_shuffled_frames_are_the_same_frames_in_another_order():
    frames = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 2, 2, 3)
    mixed = shuffled(frames)
    assert not torch.equal(mixed, frames)
    assert torch.equal(mixed.sort(dim=0).values, frames)


def test_too_few_films_are_refused():
    with pytest.raises(ValueError, match=r"films\.num_films: expected two or more, got 1"):
        ControlsConfig(films=TruthFilmsConfig(num_films=1))


@pytest.mark.slow
def test_the_table_has_a_row_for_each_condition_and_films_are_solved_once(tmp_path, monkeypatch):
    solved = []

    def failing(frames: torch.Tensor, masks: object, intrinsics: object) -> None:
        solved.append(frames.shape)
        raise ReconstructionFailed("no model")

    def tools(_: object) -> Tools:
        return Tools(flow=DISFlow("ultrafast"), sfm=failing, mask=EpipolarMotionMask(DISFlow("ultrafast")))

    monkeypatch.setattr(controls, "build_tools", tools)
    films = TruthFilmsConfig(num_films=2, num_latents=2, height=48, width=64)
    config = ControlsConfig(out=f"{tmp_path}/controls.json", films=films, smaller=[0.5], num_clips=4)
    reports = measure_controls(config)
    networks = measure_lab_network(config)
    table = write_controls(config, reports, networks)
    assert len(reports) == 8 and all(f"| {label} | " in table for label in (*reports, *networks))
    # two films in each of true, frozen, shuffled, no moving objects and smaller; other paths solve nothing again
    assert len(solved) == 2 * 5
    assert reports["true films"].summary["solved_share"] == 0
    assert reports["frozen"].summary["motion_strength_px"] == 0
    written = json.loads((tmp_path / "controls.json").read_text())
    assert set(written["conditions"]) == set(reports)
    assert "| true films at 24x32 |" in (tmp_path / "controls.md").read_text()


@pytest.mark.slow
def test_the_shipped_lab_network_tells_spoilt_clips_from_true_ones(tmp_path):
    numbers = measure_lab_network(ControlsConfig(out=f"{tmp_path}/controls.json", num_clips=96))
    true = numbers.pop("true clips")
    for name in SPOILERS:
        assert numbers[name]["frechet_lab"] > 1.2 * true["frechet_lab"], name
    assert numbers["cut to another scene"]["lab_consistency"] < true["lab_consistency"] - 0.2
