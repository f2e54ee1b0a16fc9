"""What another prompt does to the shipped world in flight: to what comes into view much, to what is in view little.

`NUM_SEEDS=6 python -m pytest tests/world/test_prompt_changes.py -s` prints the table of the
environment's README, of the sampler `default`; without it two seeds are flown by `fast`, in a third of the time.
"""

import os

import pytest
import torch
from torch import Tensor

from model.evaluation.prompts import COLOURS, ColourClassifier
from model.evaluation.truth import SceneTruth
from model.geometry import se3
from model.world.camera_world import CameraWorld
from model.world.load import load_world
from model.world.options import WorldOptions

CLIPS = 8
NUM_SEEDS = int(os.environ.get("NUM_SEEDS", "2"))  # each costs a minute
DESERT, NIGHT = "a golden desert with two red spheres", "a moonlit night with two red spheres"
RED, BLUE = "a green meadow with two red spheres", "a green meadow with two blue spheres"
TWISTS = {"standing still": [0.0] * 6, "turning round": [0.0, 0.0, 0.0, 0.0, 0.2, 0.0]}


def fly(world: CameraWorld, opening: str, prompt: str, twist: list[float], num_seeds: int) -> Tensor:
    """The frames `[seeds, clips, frames, h, w, 3]` after an opening, all clips by the prompt."""
    state, _ = world.start(list(range(num_seeds)), prompts=[opening] * num_seeds)
    state, clips = world.with_prompts(state, [prompt] * num_seeds), []
    steps = se3.exp(torch.tensor(twist)[None] * torch.arange(1, 1 + world.spec.poses_per_clip)[:, None])
    for _ in range(CLIPS):
        state, frames = world.extend(state, state.c2w[:, None] @ steps)
        clips.append(frames)
    return torch.stack(clips, dim=1)


def share_of_the_way(kept: Tensor, changed: Tensor, opened: Tensor) -> list[float]:
    """How far each clip's mean colours went from the old prompt's to those of an episode opened with the new one."""
    old, now, new = (film.double().mean(dim=(2, 3, 4)) for film in (kept, changed, opened))
    return (((now - old) * (new - old)).sum(dim=(0, 2)) / (new - old).square().sum(dim=(0, 2))).tolist()


@pytest.fixture(scope="module")
def world() -> CameraWorld:
    world = load_world("tiny", WorldOptions(sampler=None if "NUM_SEEDS" in os.environ else "fast"))
    assert isinstance(world, CameraWorld)
    return world


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [("standing still", 0.0, 0.3), ("turning round", 0.7, 1.2)])
def test_another_theme_shows_where_the_camera_turns_to(
    world: CameraWorld, name: str, least: float, most: float
) -> None:
    texts = ((DESERT, DESERT), (DESERT, NIGHT), (NIGHT, NIGHT))
    kept, changed, opened = (fly(world, *both, TWISTS[name], NUM_SEEDS) for both in texts)
    share = share_of_the_way(kept, changed, opened)
    print(f"theme, {name}: share of the way after clip 1 .. {CLIPS}:", [round(value, 2) for value in share])
    assert share_of_the_way(kept, kept, opened) == [0] * CLIPS and least < share[-1] < most


@pytest.mark.slow
def test_another_colour_brings_no_object_of_it(world: CameraWorld) -> None:
    spec = world.spec
    truth = SceneTruth.of_seed(0, torch.tensor(spec.intrinsics), spec.height, spec.width)
    judge, found = ColourClassifier.calibrated(truth, num_scenes=64), {}
    for prompt in (RED, BLUE):
        film = fly(world, RED, prompt, TWISTS["turning round"], NUM_SEEDS)
        cover = torch.stack([judge.cover(film[:, clip], "a green meadow") for clip in range(CLIPS)])
        for colour in ("red", "blue"):
            found[prompt, colour] = 100 * cover[:, COLOURS.index(colour)]
            percents = [round(value, 1) for value in found[prompt, colour].tolist()]
            print(f"opened with {RED!r}, flown by {prompt!r}: % of the picture {colour}, by clip:", percents)
    assert found[BLUE, "red"][-1] > 0.4 * found[RED, "red"][-1]  # seen again, they are as they were
    assert (found[BLUE, "blue"] - found[RED, "blue"]).abs().max() < 1.0
