"""All environments list the words of prompts, and warn once of a prompt without any of them."""

import gymnasium as gym
import pytest

import cc2env
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv


def test_every_environment_lists_the_words(learned_folder):
    words = ("red", "blue", "box", "dome")
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=learned_folder)
    assert gym.make(cc2env.ENV_ID, world=learned_folder).unwrapped.vocabulary == words
    assert envs.unwrapped.vocabulary == CameraCtrlWorldTorchRLEnv(1, learned_folder).vocabulary == words
    assert gym.make(cc2env.ENV_ID, world="synthetic").unwrapped.vocabulary is None
    assert len(gym.make(cc2env.ENV_ID).unwrapped.vocabulary) == 52


def test_a_prompt_of_which_nothing_is_known_is_warned_of_once(learned_folder):
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=learned_folder)
    with pytest.warns(
        UserWarning, match="nothing of 'three dancing unicorns' is known .* red blue box dome$"
    ) as caught:
        envs.reset(seed=0, options={"prompt": "three dancing unicorns"})
    assert len(caught) == 1
