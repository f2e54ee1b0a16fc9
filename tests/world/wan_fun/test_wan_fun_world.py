"""A published folder, in small, flies end to end and keeps the protocol."""

from pathlib import Path

import gymnasium as gym
import numpy as np

import cc2env
from cc2env.testing import check_world


def test_it_keeps_the_protocol(published: Path) -> None:
    check_world(published, other_process=False)


def test_an_environment_flies_it(published: Path) -> None:
    env = gym.make(cc2env.ENV_ID, world=str(published))
    picture = np.full((32, 48, 3), 90, np.uint8)
    clip, info = env.reset(seed=3, options={"prompt": "a red box", "image": picture})
    assert clip.shape == (8, 32, 48, 3) and (clip == picture).all() and info["function_evaluations"] == 0
    _, _, _, _, info = env.step(env.action_space.sample())
    assert (info["function_evaluations"], info["seconds"], info["prompt"]) == (4, 0.5, "a red box")
