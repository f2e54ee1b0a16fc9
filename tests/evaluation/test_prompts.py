"""Prompts: the judge knows the renderer's colours, and a world that does not listen scores what chance gives."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import CALIBRATION_SEED, HELD_OUT_SEED
from model.evaluation.oracle import OracleScenes, render_oracle_scenes
from model.evaluation.prompts import ColourClassifier, PromptFidelity, measure_prompts, named_colours
from model.world.protocol import WorldState
from model.world.synthetic_world import SyntheticWorld


@pytest.fixture(scope="module")
def scenes() -> OracleScenes:
    return render_oracle_scenes(ClipSetConfig(num_clips=16, num_latents=1, first_seed=HELD_OUT_SEED), 16)


@pytest.fixture(scope="module")
def judge(scenes: OracleScenes) -> ColourClassifier:
    return ColourClassifier.calibrated(scenes.truths()[0], 96)


def test_the_renderer_shows_what_its_captions_name(scenes: OracleScenes, judge: ColourClassifier) -> None:
    figures = measure_prompts(SyntheticWorld(), scenes, judge).summary()
    assert figures["colours_rendered"] == figures["colours_generated"] > 0.9
    assert figures["named_rendered"] > 0.7  # a caption leaves out what is small or far
    assert figures["colours_other"] < figures["colours_rendered"] - 0.2


class Deaf(SyntheticWorld):
    """Opens the same scene whatever is asked for."""

    def start(self, seeds: Sequence[int] | Tensor, *conditions: object) -> tuple[WorldState, Tensor]:  # type: ignore[override]
        return super().start([seeds[0]] * len(seeds))


def test_a_world_that_does_not_listen_gets_no_more_than_chance(scenes: OracleScenes, judge: ColourClassifier) -> None:
    figures = measure_prompts(Deaf(), scenes, judge).summary()
    assert figures["colours_generated"] < 0.6
    assert figures["whole_prompts_generated"] < 0.5


def test_figures_of_a_table_made_by_hand() -> None:
    named = [{"red", "blue"}, {"teal"}]
    found = PromptFidelity(
        torch.zeros(2, 1, 1, 3, dtype=torch.uint8), named, [{"red", "white"}, {"teal"}], named, [set(), {"red"}]
    )
    assert found.summary() == {
        "prompts": 2,
        "colours_generated": 0.667,
        "whole_prompts_generated": 0.5,
        "named_generated": 0.667,
        "colours_rendered": 1.0,
        "whole_prompts_rendered": 1.0,
        "named_rendered": 1.0,
        "colours_other": 0.0,
        "whole_prompts_other": 0.0,
        "named_other": 0.0,
    }


def test_one_prompt_has_no_other_to_compare_with() -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=1, num_latents=1, first_seed=CALIBRATION_SEED), 1)
    found = measure_prompts(SyntheticWorld(), scenes, ColourClassifier.calibrated(scenes.truths()[0], 1))
    assert found.other is None
    assert {"colours_generated", "colours_rendered"} <= found.summary().keys()
    assert "colours_other" not in found.summary()


def test_only_objects_name_colours() -> None:
    assert named_colours("a green meadow with a red box and two rolling teal spheres") == {"red", "teal"}
    assert named_colours("a green meadow") == set()


def test_scenes_without_colours_are_refused() -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=1, num_latents=1, first_seed=HELD_OUT_SEED), 1)
    scenes.captions[0] = "a green meadow"
    with pytest.raises(ValueError, match="prompts: expected scenes whose captions name colours"):
        measure_prompts(SyntheticWorld(), scenes, ColourClassifier.calibrated(scenes.truths()[0], 1))
