"""The shipped world follows its camera: along the true path it is nearer to the true film than along another path."""

import pytest

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.oracle import evaluate_oracle, render_oracle_scenes
from model.world.load import load_world
from model.world.options import WorldOptions


@pytest.mark.parametrize("sampler", ["default", "fast"])
def test_the_shipped_world_is_better_than_its_wrong_trajectory_control(sampler: str) -> None:
    """Measured in these six held-out scenes: 4.1 to 12.7 dB better, over 8 in the mean; under 3 and 6 is a fault."""
    scenes = render_oracle_scenes(ClipSetConfig(num_latents=5, first_seed=HELD_OUT_SEED), 6)
    scores = evaluate_oracle(load_world("tiny", WorldOptions(sampler=sampler)), None, scenes).psnr
    margin = (scores["generated"] - scores["wrong_trajectory"])[:, 0]
    assert margin.min() > 3 and margin.mean() > 6


@pytest.mark.parametrize(("sampler", "clip", "opening"), [("quality", 16, 32), ("default", 4, 16), ("fast", 1, 8)])
def test_the_shipped_samplers_cost_what_they_say(sampler: str, clip: int, opening: int) -> None:
    spec = load_world("tiny", WorldOptions(sampler=sampler)).spec
    assert (spec.evaluations_per_clip, spec.evaluations_per_opening) == (clip, opening)
