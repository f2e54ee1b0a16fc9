"""The whole examination on worlds whose marks are known: the renderer itself, and a picture that never changes."""

from pathlib import Path

import pytest
import torch

from model.build import OracleConfig
from model.cli.evaluate import run_oracle
from model.data.clips import ClipSetConfig
from model.evaluation.consistency import measure_revisit, out_and_back
from model.evaluation.examination import Examination, ExaminationConfig, Examiner
from model.evaluation.moves import MOVES, move, render_moves
from model.evaluation.oracle import OracleResult, OracleScenes, evaluate_oracle, render_oracle_scenes
from model.evaluation.plots import plot_paths, plot_report
from model.evaluation.report import _kinds_table, examination_tables
from model.world.synthetic_world import SyntheticWorld

CLIPS = ClipSetConfig(num_clips=2, num_latents=5, first_seed=500_000)


@pytest.fixture(scope="module")
def examined() -> tuple[OracleScenes, OracleResult, Examination]:
    scenes = render_oracle_scenes(CLIPS, 2)
    world = SyntheticWorld()
    result = evaluate_oracle(world, None, scenes)
    config = ExaminationConfig(camera=True, camera_every=16, revisit=1, still=1)
    return scenes, result, Examiner(world, None, CLIPS, scenes, config).examine(result)


def test_the_renderer_itself_scores_at_the_floor(examined: tuple[OracleScenes, OracleResult, Examination]) -> None:
    found = examined[2]
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
    assert found.sections["determinism"]["repeats"]
    assert found.sections["still"]["sharpness_ratio"] == [1.0]
    assert found.sections["still"]["contrast_ratio"] == [1.0]


def test_tables_and_plots_show_every_section(
    examined: tuple[OracleScenes, OracleResult, Examination], tmp_path: Path
) -> None:
    scenes, result, found = examined
    tables = examination_tables(found)
    assert all(word in tables for word in ("newly revealed", "floor: true frames", "revisit", "still", "ran away"))
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


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    report = run_oracle(OracleConfig(world="synthetic", num_scenes=1, out=str(tmp_path / "o.json")))
    assert {"summary", "config", "per_scene", "fidelity", "determinism"} <= report.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"o.json", "o.md", "o.png", "o_curves.png"}


def test_out_and_back_ends_where_it_began() -> None:
    poses = move("orbit_left", 5).c2w[None]
    path = out_and_back(poses)
    assert path.shape[1] == 9
    assert torch.equal(path[:, 0], path[:, -1])
    assert torch.equal(path[:, 4], poses[:, 4])


@pytest.mark.parametrize("kind", MOVES)
def test_every_move_has_room_and_goes_somewhere(kind: str) -> None:
    scenes, truths = render_moves(ClipSetConfig(num_latents=5, height=12, width=20, first_seed=500_000), kind, 1)
    assert scenes.frames.shape == (1, 17, 12, 20, 3)
    assert len(truths) == 1
    changed = not torch.equal(scenes.poses[0, -1], torch.eye(4))
    assert changed == (kind != "still")


def test_single_moves_are_told_apart_and_every_floor_is_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exact:
        """Loses nothing."""

        def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
            return frames

    monkeypatch.setattr("model.evaluation.examination.MOVES", ("left", "still"))
    scenes = render_oracle_scenes(CLIPS, 1)
    config = ExaminationConfig(kinds=1, camera_every=16)
    kinds = Examiner(SyntheticWorld(), Exact(), CLIPS, scenes, config).kinds()
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
        ExaminationConfig(camera_every=0)
    with pytest.raises(ValueError, match="kind: expected one of"):
        move("sideways", 5)
