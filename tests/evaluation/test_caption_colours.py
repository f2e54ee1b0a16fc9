"""Colours of captions in flights: the true film has them, another film has those of chance, and counts are exact."""

import pytest
import torch

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.caption_colours import CaptionedScenes, measure_caption_colours
from model.evaluation.oracle import OracleScenes, render_oracle_scenes
from model.evaluation.prompts import COLOURS, ColourClassifier, named_colours


@pytest.fixture(scope="module")
def scenes() -> OracleScenes:
    return render_oracle_scenes(ClipSetConfig(num_clips=12, num_latents=9, first_seed=HELD_OUT_SEED), 12)


@pytest.fixture(scope="module")
def judge(scenes: OracleScenes) -> ColourClassifier:
    return ColourClassifier.calibrated(scenes.truths()[0], 96)


def measured(judge: ColourClassifier, scenes: OracleScenes, **films: torch.Tensor) -> dict[str, dict[str, list[float]]]:
    poses = scenes.frame_poses()
    return measure_caption_colours(judge, scenes.truths(), scenes.captions, films, poses, 16)  # type: ignore[return-value]


def test_true_films_obey_their_captions_and_not_those_of_others(judge: ColourClassifier, scenes: OracleScenes) -> None:
    section = measured(judge, scenes, true=scenes.frames)
    assert min(section["true"]["found"]) > 0.9 and min(section["true"]["named"]) > 0.8
    assert max(section["other"]["found"]) < 0.6 and max(section["other"]["named"]) < 0.6


def test_a_film_that_loses_its_objects_in_the_second_clip_is_found_out(
    judge: ColourClassifier, scenes: OracleScenes
) -> None:
    emptied = scenes.frames.clone()
    for film, truth, path in zip(emptied, scenes.truths(), scenes.frame_poses(), strict=True):
        film[17:] = truth.backdrop(path[17:])
    section = measured(judge, scenes, emptied=emptied, true=scenes.frames)
    assert section["emptied"]["found"][0] == section["true"]["found"][0]
    assert section["emptied"]["found"][1] < 0.2


def test_what_the_true_camera_does_not_see_is_not_missing() -> None:
    red, blue, teal = (torch.eye(len(COLOURS), dtype=torch.bool)[COLOURS.index(c)] for c in ("red", "blue", "teal"))
    named = torch.stack([red | blue, teal])
    visible = torch.stack([torch.stack([red | blue, red]), torch.stack([teal | red, blue])])
    scenes = CaptionedScenes(named, visible, ["a pink dawn", "a pink dawn"])
    shown = torch.stack([torch.stack([0.03 * red, 0.03 * red + 0.01 * teal]), torch.zeros(2, len(COLOURS))])
    # clip 1: red of red, blue and teal; clip 2: red of red (blue is not in view, nor is teal), and a quarter is teal
    assert scenes.compare(shown) == {"found": [pytest.approx(1 / 3, abs=1e-4), 1.0], "named": [1.0, 0.75]}
    swapped = scenes.swapped()
    assert torch.equal(swapped.named, named.flip(0)) and torch.equal(swapped.visible, visible.flip(0))
    assert swapped.compare(shown) == {"found": [0.0, 0.0], "named": [0.0, 0.25]}


def test_views_are_the_renderers_own(scenes: OracleScenes) -> None:
    seen = CaptionedScenes.of(scenes.truths(), scenes.captions, scenes.frame_poses(), 16)
    assert seen.visible.shape == (12, 2, len(COLOURS)) and seen.visible.any()
    for scene, caption, visible in zip(scenes.truths(), scenes.captions, seen.visible, strict=True):
        there = {COLOURS[i] for i in visible.any(dim=0).nonzero()[:, 0].tolist()}
        assert there <= {item.colour for item in scene.scene.objects}
        # the caption names what the first frame sees, and a clip lasts little more than a second
        assert not named_colours(caption) or not there or named_colours(caption) & there


def test_captions_without_colours_are_refused(judge: ColourClassifier) -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=1, num_latents=5, first_seed=HELD_OUT_SEED), 1)
    assert "other" not in measured(judge, scenes, true=scenes.frames)
    scenes.captions[0] = "a green meadow"
    with pytest.raises(ValueError, match="prompts: expected scenes whose captions name colours"):
        measured(judge, scenes, true=scenes.frames)
