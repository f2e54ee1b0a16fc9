"""The published folder of minWM's student, in small, flies end to end and keeps the protocol."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import cc2env
from cc2env.testing import check_world
from model.world.load import load_world
from model.world.options import WorldOptions


def test_it_keeps_the_protocol(published: Path) -> None:
    check_world(published, other_process=False)


def test_an_environment_flies_it(published: Path) -> None:
    env = gym.make(cc2env.ENV_ID, world=str(published))
    clip, info = env.reset(seed=3, options={"prompt": "a red box"})
    assert clip.shape == (16, 16, 32, 3) and info["function_evaluations"] == 5
    env.unwrapped.set_prompt("a blue ball")
    _, _, _, _, info = env.step(env.action_space.sample())
    assert (info["function_evaluations"], info["seconds"], info["prompt"]) == (5, 1.0, "a blue ball")
    with pytest.raises(ValueError, match=r"^image: expected none"):
        env.reset(seed=3, options={"image": np.zeros((16, 32, 3), np.uint8)})


def test_its_unit_is_an_option_and_its_steps_are_none(published: Path) -> None:
    worlds = [load_world(published, WorldOptions(metres_per_unit=unit)) for unit in (None, 1.0, 4.0)]
    path = torch.eye(4).repeat(1, 4, 1, 1)
    path[..., 2, 3] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    one, same, other = (world.extend(world.start([2])[0], path)[1] for world in worlds)
    assert torch.equal(one, same) and not torch.equal(one, other)
    with pytest.raises(ValueError, match=r"^sampler_steps: expected the default, it has no effect"):
        load_world(published, WorldOptions(sampler_steps=2))
