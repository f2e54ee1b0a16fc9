"""The proof's measures on planted answers, and the pictures of the steps."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from model.curation.proof import ProofConfig, frame_numbers, proof_row, proof_tables, spread
from model.curation.shots import ClipFrames
from model.curation.step_pictures import flow_colours, overlay, step_pictures
from model.curation.steps import StepsConfig
from model.curation.tools import ToolsConfig
from model.curation.truth_films import FilmTruth, TruthFilmsConfig, load_truth, render_truth_films
from model.data.manifest import ClipRecord
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

LENS = torch.tensor([0.65, 0.87, 0.5, 0.5])


def path(metres: float) -> torch.Tensor:
    """An arc of so many metres in 9 frames."""
    share = torch.arange(9)[:, None] / 8
    return se3.exp(share * torch.tensor([0.2 * metres, 0.0, 0.9 * metres, 0.0, 0.4, 0.05]))


def truth(metres: float) -> FilmTruth:
    nothing = torch.zeros(9, 1, 1)
    return FilmTruth(path(metres), LENS, 12.0, nothing, nothing.bool())


def record(name: str, c2w: torch.Tensor, scale: float = 1.0, lens: float = 1.0) -> ClipRecord:
    moved = se3.exp(torch.tensor([5.0, 1.0, -2.0, 0.3, -0.2, 0.1])) @ c2w
    moved[:, :3, 3] *= scale
    times = torch.arange(9, dtype=torch.float64) / 12
    intrinsics = (LENS * torch.tensor([lens, lens, 1, 1])).expand(9, 4)
    return ClipRecord(id=name, source=f"films/{name}.mp4", times=times, camera=CameraTrajectory(moved, intrinsics))


def test_a_path_off_by_a_similarity_has_no_error_but_the_scale() -> None:
    truths = {"a": truth(2.0), "b": truth(1.0), "pan": truth(0.0), "still": truth(0.1)}
    row = proof_row([record("a", path(2.0), scale=0.8, lens=1.1), record("pan", path(0.0))], truths)
    assert (row.moving, row.solved, row.resting, row.rejected_resting) == (2, 1, 2, 1)
    assert row.rot_err is not None and row.rot_err < 0.1
    assert row.trans_err is not None and row.trans_err < 1e-3
    assert row.turn_err is not None and row.turn_err < 1e-2
    assert row.scale_err == pytest.approx(0.25, abs=1e-3) and row.lens_err == pytest.approx(0.1, abs=1e-5)
    assert row.metric_err is not None and 0.05 < row.metric_err < 0.4
    assert proof_row([], truths).rot_err is None


def test_a_planted_turn_of_the_camera_is_its_rotation_error() -> None:
    turned = path(2.0) @ se3.exp(torch.tensor([0.0, 0.0, 0.0, 0.0, torch.pi / 60, 0.0]))
    row = proof_row([record("a", turned)], {"a": truth(2.0)})
    assert row.turn_err is not None and row.turn_err < 1.5  # the same turn in the first frame: little is left
    assert row.rot_err == pytest.approx(3.0, abs=0.01) and row.scale_err == pytest.approx(0.0, abs=1e-3)


def test_films_and_their_truth_are_written_once_and_belong_together(tmp_path: Path) -> None:
    config = TruthFilmsConfig(num_films=1, num_latents=2, height=48, width=64)
    (name, truth), = render_truth_films(tmp_path, config).items()  # fmt: skip
    file = tmp_path / "films" / f"{name}.mp4"
    stamp = file.stat().st_mtime_ns
    again = render_truth_films(tmp_path, config)[name]
    assert file.stat().st_mtime_ns == stamp and torch.equal(again.c2w, truth.c2w)
    assert truth.depth.shape == truth.moving.shape == (5, 48, 64) and truth.moving.dtype == torch.bool
    assert load_truth(tmp_path, name).fps == 12.0
    assert frame_numbers(torch.tensor([0.0, 0.0834, 0.3333], dtype=torch.float64), truth).tolist() == [0, 1, 4]


def test_the_tables_have_every_row() -> None:
    row = dataclasses.asdict(proof_row([record("a", path(2.0), scale=0.8)], {"a": truth(2.0)}))
    mask = {"precision": 0.5, "recall": None, "moving_pixels": 7}
    balance = {"without": {"paths": 3, "largest_share": 1.0, "effective_categories": 1.0}}
    text = proof_tables({"rows": {"all steps": row}, "mask": mask, "balance": balance})
    assert "| all steps | 1 of 1 | 0 of 0 | 0.0" in text and "| turn error, deg |" in text and "25.0 %" in text
    assert "precision 0.50, recall -" in text and "| without | 3 | 100.0 % | 1.0 |" in text


def test_an_even_spread_has_as_many_effective_categories_as_categories() -> None:
    from model.curation.balance import PathDescription

    paths = {
        name: PathDescription((), (), (primary, "none"), 0.0)
        for name, primary in zip("abcd", ("left", "right", "up", "down"), strict=True)
    }
    assert spread(paths, list("abcd")) == pytest.approx(
        {"paths": 4, "largest_share": 0.25, "effective_categories": 4.0}
    )
    assert spread(paths, ["a"])["effective_categories"] == pytest.approx(1.0)


def test_the_configuration_cuts_films_into_one_clip_each() -> None:
    shots = ProofConfig(films=TruthFilmsConfig(num_latents=3)).curation().shots
    assert (shots.min_frames, shots.max_frames, shots.height) == (9, 9, 240)


def test_every_step_has_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    script = Path(__file__).with_name("planted_tools.py")
    spec = importlib.util.spec_from_file_location("planted_tools", script)
    assert spec is not None and spec.loader is not None
    planted = importlib.util.module_from_spec(spec)
    sys.modules["planted_tools"] = planted
    spec.loader.exec_module(planted)
    frames = torch.randint(0, 256, (6, planted.HEIGHT, planted.WIDTH, 3), dtype=torch.uint8)
    clip = ClipFrames(frames, torch.arange(6, dtype=torch.float64) / 12, 0, 0)
    files = step_pictures(tmp_path, clip, planted.PlantedTools()(ToolsConfig()), StepsConfig())
    assert [file.name for file in files] == ["flow.png", "mask.png", "points.png", "depth.png"]
    assert all(file.stat().st_size > 2000 for file in files)


def test_colours_show_direction_and_length() -> None:
    flow = torch.zeros(2, 2, 2)
    flow[0, 0], flow[0, 1] = torch.tensor([4.0, 0.0]), torch.tensor([-4.0, 0.0])
    colours = flow_colours(flow)
    assert colours[0, 0].tolist() == [255, 0, 0] and colours[0, 1].tolist() == [0, 255, 255]
    assert colours[1, 1].tolist() == [255, 255, 255]
    marked = overlay(torch.zeros(2, 2, 3, dtype=torch.uint8), torch.tensor([[True, False], [False, False]]))
    assert marked[0, 0, 0] > 100 and not marked[0, 1].any()
