"""Objects' share and edges, on frames of which both are known."""

import pytest
import torch

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.objects import ObjectCover, background_frames, foreground_mask, measure_objects
from model.evaluation.oracle import OracleScenes, render_oracle_scenes

CLIPS = ClipSetConfig(num_clips=2, num_latents=5, first_seed=HELD_OUT_SEED)


@pytest.fixture(scope="module")
def scenes() -> OracleScenes:
    return render_oracle_scenes(CLIPS, 3)


def test_pixels_and_gradient_of_a_planted_object() -> None:
    backdrop = torch.full((1, 2, 6, 10, 3), 100, dtype=torch.uint8)
    frames = backdrop.clone()
    frames[:, :, 1:4, 2:6] = 200  # 12 pixels a frame; their only gradient is at the right border: 3 pixels of 100
    cover = ObjectCover.of_frames(frames, backdrop, frames_per_clip=2)
    assert cover.pixels.tolist() == [24]
    assert cover.gradient.tolist() == pytest.approx([100 * 3 / 12], rel=1e-5)


def test_a_grey_level_more_or_less_is_backdrop() -> None:
    backdrop = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    assert not foreground_mask(backdrop + 24, backdrop).any()
    assert foreground_mask(backdrop - 25, backdrop).all()  # below as well as above, without unsigned overflow


def test_true_frames_score_1_an_empty_scene_0_and_smudges_less_edges(scenes: OracleScenes) -> None:
    true = scenes.frames
    small = torch.nn.functional.avg_pool2d(
        true.flatten(0, 1).movedim(-1, 1).float(), 9, stride=1, padding=4, count_include_pad=False
    )
    smudged = small.movedim(1, -1).round().byte().view_as(true)
    films = {"true": true, "smudged": smudged}
    section = measure_objects(scenes.truths(), films, true, scenes.frame_poses(), 16)
    assert section["true"] == {"share": [1.0], "edges": [1.0]}
    assert section["backdrop"] == {"share": [0.0], "edges": [None]}
    assert section["smudged"]["edges"][0] < 0.8
    assert 0.02 < section["true_share"][0] < 0.8


def test_the_backdrop_is_the_true_frame_wherever_there_is_no_object(scenes: OracleScenes) -> None:
    at = torch.arange(4, 17, 4)
    truth, path = scenes.truths()[0], scenes.frame_poses()[0, at]
    backdrop = background_frames([truth], path[None])[0]
    equal = (backdrop == scenes.frames[0, at]).all(dim=-1)
    assert equal.float().mean() > 0.3  # sky and ground, bit for bit
    assert not equal.all()
