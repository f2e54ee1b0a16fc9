"""The whole evaluation on worlds whose figures are known: the renderer itself, and a picture that never changes."""

import json
import math
from pathlib import Path

import pytest
import torch

from model.build import BlockedConfig, OracleConfig
from model.cli.evaluate import run_blocked, run_oracle
from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.consistency import Revisit, measure_revisit, out_and_back
from model.evaluation.fidelity import Regions, fidelity_per_clip
from model.evaluation.moves import MOVES, move, render_moves
from model.evaluation.oracle import OracleResult, OracleScenes, evaluate_oracle, render_oracle_scenes
from model.evaluation.plots import plot_paths, plot_report
from model.evaluation.prompts import ColourClassifier
from model.evaluation.report import _kinds_table, evaluation_tables
from model.evaluation.world_evaluator import EvaluationConfig, EvaluationReport, WorldEvaluator
from model.world.synthetic_world import SyntheticWorld

CLIPS = ClipSetConfig(num_clips=2, num_latents=5, first_seed=HELD_OUT_SEED)


@pytest.fixture(scope="module")
def evaluated() -> tuple[OracleScenes, OracleResult, EvaluationReport]:
    scenes = render_oracle_scenes(CLIPS, 2)
    world = SyntheticWorld()
    result = evaluate_oracle(world, None, scenes)
    config = EvaluationConfig(
        camera=True, camera_every=16, objects=True, caption_colours=True, steadiness=True, revisit=1, still=1
    )
    evaluator = WorldEvaluator(world, None, CLIPS, scenes, config)
    evaluator.colour_classifier = ColourClassifier.calibrated(evaluator.truths[0], 48)
    return scenes, result, evaluator.evaluate(result)


def test_the_renderer_itself_scores_at_the_floor(
    evaluated: tuple[OracleScenes, OracleResult, EvaluationReport],
) -> None:
    found = evaluated[2]
    summary = found.summary()
    assert summary["camera_solved"] == summary["camera_frames"] == 2
    # the search starts at the true pose and finds nothing better
    assert summary["rot_err_deg"] < 0.01
    assert summary["trans_err_m"] < 0.001
    # from 5 cm and 1 degree off; soft scenes of 8 bits tell no more
    assert summary["rot_err_floor_deg"] < 0.5
    assert summary["trans_err_floor_m"] < 0.04
    assert summary["psnr_seen_first_clip"] == pytest.approx(100)
    assert summary["ssim_first_clip"] == pytest.approx(1)
    # rounded poses: a grey level here and there
    assert summary["psnr_revisit"] > 60
    assert found.sections["fidelity"]["sharpness_ratio"] == found.sections["fidelity"]["contrast_ratio"] == [1.0]
    assert found.sections["objects"]["generated"] == {"share": [1.0], "edges": [1.0]}
    assert found.sections["steadiness"]["generated"] == found.sections["steadiness"]["true"]
    assert found.sections["caption_colours"]["generated"] == found.sections["caption_colours"]["true"]
    assert found.sections["determinism"]["repeats"]
    assert found.sections["still"]["sharpness_ratio"] == [1.0]
    assert found.sections["still"]["contrast_ratio"] == [1.0]


def test_tables_and_plots_show_every_section(
    evaluated: tuple[OracleScenes, OracleResult, EvaluationReport], tmp_path: Path
) -> None:
    scenes, result, found = evaluated
    tables = evaluation_tables(found)
    assert all(
        word in tables
        for word in ("newly revealed", "floor: true frames", "no objects (control)", "revisit", "still", "ran away")
    )
    assert "PSNR, dB (pooled), all pixels" in tables and "PSNR, dB (pooled), moving objects" in tables
    assert "another scene's caption (control)" in tables and "objects found again, true frames (floor)" in tables
    plot_report(tmp_path / "curves.png", result, found)
    assert found.camera is not None
    plot_paths(tmp_path / "paths.png", scenes.frame_poses(), found.camera, scenes.kinds)
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "paths.png"}


def test_coming_back_to_another_picture_is_noticed() -> None:
    scenes = render_oracle_scenes(CLIPS, 1)
    other = torch.eye(4).repeat(1, 5, 1, 1)
    other[:, 1:, 0, 3] = 0.3

    class Forgetful(SyntheticWorld):
        """Never quite comes back."""

        def extend(self, state, c2w):  # type: ignore[no-untyped-def]
            return super().extend(state, c2w @ other[:, 1:])

    visit = measure_revisit(Forgetful(), scenes, scenes.truths(), scenes.poses, 1)
    assert visit.summary(1)["psnr_returned"] < 60


def test_scenes_without_static_pixels_are_left_out_of_the_mean_and_counted() -> None:
    assert Revisit([math.nan, 30.0], [math.nan, 20.0]).summary(3) == {
        "clips_out": 3, "psnr_returned": 30.0, "psnr_turning_point": 20.0, "scenes_without_static_pixels": 1
    }  # fmt: skip
    nothing = Revisit([math.nan], [math.nan]).summary(3)
    assert nothing["psnr_returned"] is None and nothing["psnr_turning_point"] is None


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    report = run_oracle(OracleConfig(world="synthetic", num_scenes=1, out=str(tmp_path / "o.json")))
    assert {"summary", "config", "per_scene", "fidelity", "determinism"} <= report.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"o.json", "o.md", "o.png", "o.mp4", "o_curves.png"}
    assert json.loads((tmp_path / "o.json").read_text(), parse_constant=pytest.fail)["summary"] == report["summary"]


@pytest.mark.parametrize("name", ["o.md", "o.png", "o", ".json"])
def test_a_file_that_the_tables_or_pictures_would_overwrite_is_refused_before_flying(name: str, tmp_path: Path) -> None:
    # a world that is not there would be the next complaint
    for run, config in ((run_oracle, OracleConfig), (run_blocked, BlockedConfig)):
        with pytest.raises(ValueError, match=r"^out: expected a file name that ends in \.json, got .*; name it "):
            run(config(world="nowhere", out=str(tmp_path / name)))
    assert not list(tmp_path.iterdir())


def test_pooled_psnr_weighs_pixels_and_not_scenes() -> None:
    truth = torch.full((2, 17, 4, 4, 3), 100, dtype=torch.uint8)
    frames = truth.clone()
    frames[1] += 51  # 0 and 0.2**2: the mean over scenes would be (100 + 14) / 2
    everywhere = torch.ones(2, 17, 4, 4, dtype=torch.bool)
    rows = fidelity_per_clip(frames, truth, Regions(everywhere, everywhere, ~everywhere, ~everywhere), 16)
    assert rows["psnr_pooled"] == rows["psnr_seen"] == [pytest.approx(-10 * math.log10(0.02), abs=1e-4)]


def test_out_and_back_ends_where_it_began() -> None:
    poses = move("orbit_left", 5).c2w[None]
    path = out_and_back(poses)
    assert path.shape[1] == 9
    assert torch.equal(path[:, 0], path[:, -1])
    assert torch.equal(path[:, 4], poses[:, 4])


@pytest.mark.parametrize("kind", MOVES)
def test_every_move_has_room_and_goes_somewhere(kind: str) -> None:
    scenes, truths = render_moves(ClipSetConfig(num_latents=5, height=12, width=20, first_seed=HELD_OUT_SEED), kind, 1)
    assert scenes.frames.shape == (1, 17, 12, 20, 3)
    assert len(truths) == 1
    changed = not torch.equal(scenes.poses[0, -1], torch.eye(4))
    assert changed == (kind != "still")


def test_single_moves_are_told_apart_and_every_floor_is_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exact:
        """Loses nothing."""

        def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
            return frames

    monkeypatch.setattr("model.evaluation.world_evaluator.MOVES", ("left", "still"))
    scenes = render_oracle_scenes(CLIPS, 1)
    config = EvaluationConfig(kinds=1, camera_every=16)
    kinds = WorldEvaluator(SyntheticWorld(), Exact(), CLIPS, scenes, config).kinds()
    left, still = kinds["left"], kinds["still"]
    assert left["camera"]["trans_err_m"] < 0.001
    assert left["psnr"] == pytest.approx(100)
    assert left["psnr_hold"] < still["psnr_hold"]
    # through an autoencoder that changes nothing, the search finds what it finds in true frames
    assert left["vae_floor"] == left["floor"]
    assert still["camera"]["trans_share"] is None
    table = _kinds_table(kinds).splitlines()
    assert all(line.count("|") == table[0].count("|") for line in table)
    assert "through the VAE, share of path" in table[0]


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="camera_every: expected at least 1, got 0"):
        EvaluationConfig(camera_every=0)
    with pytest.raises(ValueError, match="kind: expected one of"):
        move("sideways", 5)


def test_a_camera_measured_more_rarely_than_there_are_frames_is_refused_before_flying() -> None:
    clips = ClipSetConfig(num_latents=9, height=12, width=20, first_seed=HELD_OUT_SEED)
    scenes, world = render_oracle_scenes(clips, 1), SyntheticWorld(height=12, width=20)
    for config in ({"camera": True, "camera_every": 32}, {"kinds": 1, "camera_every": 16}, {"camera_every": 64}):
        WorldEvaluator(world, None, clips, scenes, EvaluationConfig(**config))
    for config, most in (({"camera": True, "camera_every": 33}, 32), ({"kinds": 1, "camera_every": 17}, 16)):
        with pytest.raises(ValueError, match=rf"^camera_every: expected at most {most}, .*; lower it"):
            WorldEvaluator(world, None, clips, scenes, EvaluationConfig(**config))
