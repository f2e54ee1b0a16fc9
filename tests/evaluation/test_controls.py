"""The two controls that know the geometry, where what they must show can be told."""

import torch

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.controls import first_frame_carried, time_stopped
from model.evaluation.oracle import evaluate_oracle, render_oracle_scenes
from model.evaluation.report import markdown_table
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import masked_psnr
from model.evaluation.visibility import seen_at_start
from model.geometry import primitives
from model.geometry.camera import intrinsics_from_fov
from model.world.synthetic_world import SyntheticWorld

LENS = intrinsics_from_fov(1.3, 48, 80)


def truth_of(seed: int) -> SceneTruth:
    return SceneTruth.of_seed(seed, LENS, 48, 80)


def test_standing_still_both_show_the_first_frame() -> None:
    truth = truth_of(500_003)
    path = primitives.hold_still(3).c2w
    first = truth.clip(path[:1], torch.zeros(1)).frames[0]
    assert torch.equal(time_stopped(truth, path), first.expand(3, -1, -1, -1))
    difference = (first_frame_carried(truth, first, path).int() - first.int()).abs()
    assert int(difference.max()) <= 1  # bicubic taps that meet the pixel centres up to rounding


def test_what_the_first_frame_showed_is_carried_to_where_the_renderer_has_it_and_far_better_than_held() -> None:
    truth = truth_of(500_003)
    path = primitives.truck(0.4, 4).c2w
    stopped = time_stopped(truth, path)
    carried = first_frame_carried(truth, stopped[0], path)
    depth = truth.depth(path, torch.zeros(4))
    shown = seen_at_start(depth, depth[0], path, path[0], LENS)
    assert 0.5 < float(shown[-1].float().mean()) < 1
    held = stopped[:1].expand_as(stopped)
    assert masked_psnr(carried, stopped, shown) > masked_psnr(held, stopped, shown) + 6
    # what was hidden is filled with something: no pixel is left black
    assert int(carried[-1][~shown[-1]].amax(dim=-1).min()) > 0


def test_a_view_of_nothing_that_was_shown_has_the_mean_colour_not_black() -> None:
    truth = truth_of(500_003)
    path = primitives.pan(torch.pi, 5).c2w
    first = time_stopped(truth, path[:1])[0]
    behind = first_frame_carried(truth, first, path)[-1].float().flatten(0, 1)
    assert torch.allclose(behind, first.float().flatten(0, 1).mean(dim=0).expand_as(behind), atol=1)


def test_a_scene_in_which_nothing_moves_is_its_own_stopped_time() -> None:
    truth = truth_of(500_005)
    resting = SceneTruth(truth.resting, truth.resting, truth.start, LENS, 48, 80)
    path = primitives.dolly(0.3, 3).c2w
    moved = resting.clip(path, torch.arange(3) / 12.0).frames
    assert torch.equal(time_stopped(resting, path), moved)


def test_the_oracle_has_a_row_for_each_and_knowing_more_scores_higher() -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=6, num_latents=5, first_seed=HELD_OUT_SEED), 6)
    result = evaluate_oracle(SyntheticWorld(), None, scenes, truths=scenes.truths(), batch_size=6)
    hold, carried, stopped = (float(result.psnr[n].mean()) for n in ("hold", "carried", "time_stopped"))
    assert hold + 2 < carried < stopped < float(result.psnr["generated"].mean())
    assert markdown_table(result).count("\n") == 2 + len(result.psnr)
