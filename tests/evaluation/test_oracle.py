"""The oracle evaluation, tested on worlds whose score is known."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from model.build import OracleConfig
from model.cli.held_out_scenes import clips_for
from model.data.clips import ClipSetConfig
from model.evaluation.oracle import OracleScenes, evaluate_oracle, fly, render_oracle_scenes
from model.evaluation.report import comparison_film, comparison_sheet, markdown_table, summarise
from model.evaluation.video_quality import psnr
from model.world.config import WorldConfig
from model.world.protocol import WorldSpec, WorldState
from model.world.synthetic_world import SyntheticWorld


@pytest.fixture(scope="module")
def scenes() -> OracleScenes:
    return render_oracle_scenes(ClipSetConfig(num_clips=3, num_latents=9, height=16, width=24, first_seed=7), 3)


class StillWorld:
    """Repeats the picture it was given."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec

    def start(self, seeds, prompts=None, images=None, intrinsics=None):  # type: ignore[no-untyped-def]
        b = len(seeds)
        state = WorldState(
            c2w=torch.eye(4).repeat(b, 1, 1),
            intrinsics=intrinsics,
            seed=torch.tensor(seeds),
            step=torch.zeros(b, dtype=torch.int64),
            memory=TensorDict({"image": images}, batch_size=[b]),
            batch_size=[b],
        )
        return state, images[:, None]

    def extend(self, state, c2w):  # type: ignore[no-untyped-def]
        return state, state.memory["image"][:, None].repeat(1, self.spec.frames_per_clip, 1, 1, 1)


def test_psnr_of_known_errors() -> None:
    black = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    assert psnr(black, black).item() == pytest.approx(100)
    assert psnr(black, black + 255).item() == pytest.approx(0, abs=1e-5)
    assert psnr(black, black + 51).item() == pytest.approx(-20 * torch.tensor(0.2).log10().item(), abs=1e-4)


def test_the_renderer_itself_scores_at_the_ceiling(scenes: OracleScenes) -> None:
    result = evaluate_oracle(SyntheticWorld(height=16, width=24), None, scenes, batch_size=2)
    assert torch.equal(result.generated, scenes.frames)
    assert (result.psnr["generated"] == 100).all()
    assert summarise(result)["psnr_wrong_trajectory"] < 60


def test_a_still_world_scores_as_holding_the_first_frame(scenes: OracleScenes) -> None:
    spec = SyntheticWorld(height=16, width=24).spec
    result = evaluate_oracle(StillWorld(spec), None, scenes, batch_size=2)
    assert torch.equal(result.psnr["generated"], result.psnr["hold"])
    assert torch.equal(result.psnr["wrong_trajectory"], result.psnr["hold"])
    # no still picture is nearer to a clip than the clip's own mean
    assert (result.psnr["clip_mean"] >= result.psnr["hold"] - 0.05).all()


def test_the_report_names_every_row_and_shows_every_scene(scenes: OracleScenes) -> None:
    spec = replace(SyntheticWorld(height=16, width=24).spec)
    result = evaluate_oracle(StillWorld(spec), None, scenes, batch_size=3)
    table = markdown_table(result)
    assert table.count("\n") == 2 + len(result.psnr)
    assert comparison_sheet(scenes, result).shape == (3 * 3 * 16, 6 * 24, 3)
    film = comparison_film(scenes, result, num_scenes=2)
    assert torch.equal(film[:, 16:, :24], scenes.frames[1]) and torch.equal(film[:, 16:, 24:], result.generated[1])
    assert "mean over 3 held-out scenes" in table and table.count("±") == 2 * len(result.psnr)


def test_the_summary_has_the_controls_that_know_the_geometry(scenes: OracleScenes) -> None:
    world = SyntheticWorld(height=16, width=24)
    summary = summarise(evaluate_oracle(world, None, scenes, truths=scenes.truths()))
    assert summary["psnr_hold"] < summary["psnr_carried"] and summary["psnr_time_stopped"] < summary["psnr_first_clip"]


def test_one_scene_has_no_wrong_trajectory_and_no_standard_error() -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_latents=5, height=16, width=24, first_seed=7), 1)
    result = evaluate_oracle(SyntheticWorld(height=16, width=24), None, scenes)
    assert result.wrong is None and "wrong_trajectory" not in result.psnr
    assert "psnr_wrong_trajectory" not in summarise(result)
    table = markdown_table(result)
    assert "another scene" not in table and "±" not in table and "nan" not in table
    assert comparison_sheet(scenes, result).shape == (2 * 16, 6 * 24, 3)


@pytest.mark.parametrize("degrees", [75.0, 60.0, 98.5])
def test_scenes_are_rendered_through_the_lens_of_the_world(degrees: float) -> None:
    for spec in (WorldConfig(horizontal_fov_deg=degrees).spec(), SyntheticWorld(horizontal_fov_deg=degrees).spec):
        clips = clips_for(spec, OracleConfig())
        assert clips.horizontal_fov_deg == degrees
        assert tuple(clips.intrinsics().tolist()) == spec.intrinsics


def test_a_lens_that_scenes_are_not_rendered_through_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    spec = WorldConfig().spec()
    clips_for(spec, OracleConfig())
    assert capsys.readouterr().out == ""
    fx, fy, cx, cy = spec.intrinsics
    for intrinsics in ((fx, fy, 0.4, cy), (fx, 1.2 * fy, cx, cy)):
        assert clips_for(replace(spec, intrinsics=intrinsics), OracleConfig()).horizontal_fov_deg == 75
        assert "75 degrees wide, centred, with square pixels" in capsys.readouterr().out


def test_a_world_of_other_poses_is_named() -> None:
    spec = replace(WorldConfig().spec(), frames_per_clip=5, poses_per_clip=5)
    with pytest.raises(ValueError, match=r"^world: expected 4 frames for each pose.*got 1 \(5 frames and 5 poses"):
        clips_for(spec, OracleConfig())


class ListeningWorld(StillWorld):
    """Repeats the picture it was given, if it is told a caption too; else shows black."""

    def start(self, seeds, prompts=None, images=None, intrinsics=None):  # type: ignore[no-untyped-def]
        self.heard = prompts
        return super().start(seeds, prompts, images if prompts else torch.zeros_like(images), intrinsics)


def test_a_world_is_told_the_captions_only_on_request(scenes: OracleScenes) -> None:
    world = ListeningWorld(SyntheticWorld(height=16, width=24).spec)
    alone = evaluate_oracle(world, None, scenes, batch_size=2)
    assert "without_caption" not in alone.psnr and not alone.generated.any()
    told = evaluate_oracle(world, None, replace(scenes, with_caption=True), batch_size=3)
    assert torch.equal(told.psnr["generated"], told.psnr["hold"])
    assert torch.equal(told.psnr["without_caption"], alone.psnr["generated"])
    assert summarise(told)["psnr_without_caption"] < summarise(told)["psnr_first_clip"]
    fly(world, replace(scenes, with_caption=True), scenes.poses, 2, "the last batch has one row")
    assert world.heard == scenes.captions[2:]
