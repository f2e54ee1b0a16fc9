"""The prompt can change in flight: from the next clip on, in every environment, kept in snapshots and forks."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

import cc2env
from cc2env import wrappers
from cc2env.snapshot import EnvSnapshot
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv

STILL = np.zeros((4, 6), np.float32)


@pytest.fixture
def env(learned_folder):
    env = gym.make(cc2env.ENV_ID, world=learned_folder).unwrapped
    env.reset(seed=3, options={"prompt": "red box"})
    return env


def test_the_next_clip_is_by_the_new_prompt(env):
    start = env.snapshot()
    by_the_old = env.step(STILL)[0]
    env.restore(start)
    env.set_prompt("blue dome")
    by_the_new, *_, info = env.step(STILL)
    assert info["prompt"] == "blue dome" and not np.array_equal(by_the_new, by_the_old)
    env.restore(start)
    env.set_prompt("red box")  # the one in force
    assert np.array_equal(env.step(STILL)[0], by_the_old)


def test_a_reset_goes_back_to_its_own_prompt(env):
    env.set_prompt("blue dome")
    assert env.reset(seed=3, options={"prompt": "red box"})[1]["prompt"] == "red box"


def test_snapshots_and_forks_keep_it(env, learned_folder, tmp_path):
    env.set_prompt("blue dome")
    env.snapshot().save(tmp_path / "moment.safetensors")
    futures = env.fork(2)
    expected, *_, info = env.step(STILL)
    other = gym.make(cc2env.ENV_ID, world=learned_folder).unwrapped
    other.restore(EnvSnapshot.load(tmp_path / "moment.safetensors"))
    clip, *_, again = other.step(STILL)
    assert np.array_equal(clip, expected) and again["prompt"] == info["prompt"] == "blue dome"
    clips, *_, infos = futures.step(np.stack([STILL, STILL]))
    assert np.abs(clips.astype(int) - expected).max() <= 1 and infos["prompt"].tolist() == ["blue dome"] * 2


def test_each_row_has_its_own_and_equals_the_single_environment(env, learned_folder):
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=learned_folder).unwrapped
    native = CameraCtrlWorldTorchRLEnv(2, learned_folder, prompt="red box")
    envs.reset(seed=3, options={"prompt": "red box"})
    native.set_seed(3)
    td = native.reset()
    for each in (envs, native):
        each.set_prompt("dome")
        each.set_prompt([None, "red"])
        each.set_prompt(["blue dome"], rows=[0])
    clips, *_, infos = envs.step(np.stack([STILL, STILL]))
    assert infos["prompt"].tolist() == ["blue dome", "red"]
    flown = native.step(td.set("action", torch.zeros(2, 4, 6)))["next", "pixels"]
    assert np.abs(flown.numpy().astype(int) - clips).max() <= 1
    assert native.snapshot().session.prompts == ("blue dome", "red")
    env.set_prompt("blue dome")
    assert np.abs(clips[0].astype(int) - env.step(STILL)[0]).max() <= 1


def test_a_world_that_does_not_listen_says_so():
    env = gym.make(cc2env.ENV_ID, world="synthetic").unwrapped
    env.reset(seed=3)
    with pytest.raises(ValueError, match=r"^set_prompt: expected none, SyntheticWorld has no use for it"):
        env.set_prompt("dusk")


def test_a_bad_prompt_changes_nothing(env, learned_folder):
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"^prompt: expected a string, got int"):
        env.set_prompt(3)
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=learned_folder).unwrapped
    with pytest.raises(ResetNeeded, match="set_prompt"):
        envs.set_prompt("dusk")
    with pytest.raises(RuntimeError, match="set_prompt"):
        CameraCtrlWorldTorchRLEnv(1, learned_folder).set_prompt("dusk")
    envs.reset(seed=3)
    for prompt, rows in ((["red"], None), (["red", 3], None), (7, [0])):
        with pytest.raises(ValueError, match=r"^prompt: expected a text, or \d of them"):
            envs.set_prompt(prompt, rows)
    for rows in ([0, 0], [2], [-1]):
        with pytest.raises(ValueError, match=r"^rows: expected different rows"):
            envs.set_prompt("red", rows)
    expected = env.step(STILL)[0]
    env.restore(before)
    assert np.array_equal(env.step(STILL)[0], expected)


def test_an_action_may_bring_its_prompt(env):
    wrapped = wrappers.PromptedActions(wrappers.SingleTwist(env))
    start, still = env.snapshot(), np.zeros(6, np.float32)
    assert {"segment": still, "prompt": "blue dome"} in wrapped.action_space
    assert wrapped.step({"segment": still, "prompt": ""})[-1]["prompt"] == "red box"
    env.restore(start)
    clip, *_, info = wrapped.step({"segment": still, "prompt": "blue dome"})
    assert info["prompt"] == "blue dome"
    assert wrapped.step({"segment": still, "prompt": ""})[-1]["prompt"] == "blue dome"
    env.restore(start)
    env.set_prompt("blue dome")
    assert np.array_equal(env.step(STILL)[0], clip)


def test_a_refused_action_leaves_the_prompt(env):
    wrapped = wrappers.PromptedActions(env)
    for action in (
        {"segment": STILL + 9, "prompt": "dome"},
        {"segment": STILL, "prompt": 3},
        STILL,
        {"segment": STILL},
    ):
        with pytest.raises(ValueError, match=r"^(action|prompt): expected"):
            wrapped.step(action)
    assert wrapped.step({"segment": STILL, "prompt": ""})[-1]["prompt"] == "red box"
    with pytest.raises(ValueError, match=r"^env: expected a world whose prompt can change"):
        wrappers.PromptedActions(gym.make(cc2env.ENV_ID, world="synthetic"))


def test_recordings_keep_the_prompt_of_every_clip(learned_folder, tmp_path):
    env = wrappers.RecordEpisode(gym.make(cc2env.ENV_ID, world=learned_folder), tmp_path, formats=[])
    env.reset(seed=3, options={"prompt": "red box"})
    env.step(STILL)
    env.unwrapped.set_prompt("blue dome")
    env.step(STILL)
    env.close()
    kept = json.loads((tmp_path / "episode-0000.json").read_text())
    assert kept == {"prompt": "red box", "prompts": ["red box", "blue dome"]}


def test_every_environment_says_what_its_world_can_do(env, learned_folder):
    assert env.abilities == {"prompt", "image", "horizontal_fov_deg", "set_prompt"}
    rendered = {"horizontal_fov_deg", "collision", "depth"}
    assert CameraCtrlWorldTorchRLEnv(1, "synthetic").abilities == rendered
    assert gym.make_vec(cc2env.ENV_ID, world="synthetic").unwrapped.abilities == rendered
