"""What holds in every world that `gymnasium.make` can name: the renderer, a folder of weights, the shipped ones."""

import dataclasses
import gc
import hashlib
import json
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torchrl.envs import check_env_specs

import cc2env
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from model.checkpoint import load_config
from model.dit.camera_injection import INJECTIONS
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained import shipped_worlds
from model.world.folder import world_folder

SHIPPED = [pytest.param(name, marks=[] if name == "tiny" else pytest.mark.slow) for name in shipped_worlds()]


@pytest.fixture(params=["synthetic", "random", *SHIPPED])
def world(request):
    return request.getfixturevalue("learned_folder") if request.param == "random" else request.param


def fly(env, seed, num_clips=2):
    """The bytes of an episode of random actions."""
    env.action_space.seed(seed)
    clips = [env.reset(seed=seed)[0]]
    clips += [env.step(env.action_space.sample())[0] for _ in range(num_clips)]
    return hashlib.sha256(np.stack(clips).tobytes()).hexdigest()


_FLY_ELSEWHERE = """
import hashlib, json, sys, gymnasium, numpy, torch
torch.set_num_threads(1)
for world in json.loads(sys.argv[1]):
    env = gymnasium.make("cc2env:CameraCtrlWorld-v0", world=world)
    env.action_space.seed(5)
    clips = [env.reset(seed=5)[0]] + [env.step(env.action_space.sample())[0] for _ in range(2)]
    print(hashlib.sha256(numpy.stack(clips).tobytes()).hexdigest())
"""


def test_gymnasiums_checker_is_content(world):
    env = gym.make(cc2env.ENV_ID, world=world, render_mode="rgb_array")  # it makes the other modes itself
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_torchrls_checker_is_content(world):
    check_env_specs(CameraCtrlWorldTorchRLEnv(2, world, max_episode_steps=2), seed=0)


def test_the_same_seed_and_actions_give_the_same_bytes_and_another_seed_others(world):
    env, twin = (gym.make(cc2env.ENV_ID, world=world) for _ in range(2))
    once = fly(env, 5)
    assert fly(env, 5) == once == fly(twin, 5) and fly(env, 6) != once


def test_another_process_gives_the_same_bytes(learned_folder):
    worlds = ["synthetic", learned_folder, "tiny"]
    here = [fly(gym.make(cc2env.ENV_ID, world=world), 5) for world in worlds]
    command = [sys.executable, "-c", _FLY_ELSEWHERE, json.dumps(worlds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == here


def test_a_restored_snapshot_continues_bit_for_bit(world):
    env = gym.make(cc2env.ENV_ID, world=world)
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(4)]
    env.reset(seed=5)
    env.step(actions[0])
    kept = env.unwrapped.snapshot()
    ahead = [env.step(action)[0] for action in actions[1:3]]
    env.step(actions[3])
    for _ in range(2):
        env.unwrapped.restore(kept)
        again = [env.step(action)[0] for action in actions[1:3]]
        assert all((a == b).all() for a, b in zip(ahead, again, strict=True))


def test_a_row_of_a_batch_is_the_single_environment_after_three_clips(world):
    """Within one grey level, since matrix kernels may differ with the batch size; the renderer's to the bit."""
    seeds = [11, 3]
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=world)
    native = CameraCtrlWorldTorchRLEnv(2, world)
    native.set_seeds(seeds)
    envs.action_space.seed(2)
    actions = [0.5 * envs.action_space.sample() for _ in range(3)]
    batched, td, alone = [envs.reset(seed=seeds)[0]], native.reset(), []
    for action in actions:
        batched.append(envs.step(action)[0])
        td = native.step(td.set("action", torch.from_numpy(action)))["next"].exclude("reward")
    for row, seed in enumerate(seeds):
        env = gym.make(cc2env.ENV_ID, world=world)
        alone.append([env.reset(seed=seed)[0], *(env.step(action[row])[0] for action in actions)])
    expected = np.array(alone, dtype=int).swapaxes(0, 1)
    tolerance = 0 if world == "synthetic" else 1
    assert np.abs(np.stack(batched) - expected).max() <= tolerance
    assert np.abs(td["pixels"].numpy() - expected[-1]).max() <= tolerance


def test_bad_actions_change_nothing(world):
    env, untroubled = (gym.make(cc2env.ENV_ID, world=world) for _ in range(2))
    action = np.full((4, 6), 0.05, np.float32)
    env.reset(seed=0), untroubled.reset(seed=0)
    for value in (np.nan, np.inf, 9.0):
        with pytest.raises(ValueError, match=r"^action: expected"):
            env.step(np.full((4, 6), value, np.float32))
    assert (env.step(action)[0] == untroubled.step(action)[0]).all()


def test_a_learned_world_names_its_prompt_and_its_cost(random_world, tmp_path):
    folder = str(random_world.save(tmp_path, dataclasses.replace(random_world.config, default_prompts=["red box"])))
    env = gym.make(cc2env.ENV_ID, world=folder)
    _, info = env.reset(seed=0)
    assert info["prompt"] == "red box"
    assert env.step(env.action_space.sample())[-1]["function_evaluations"] == 2 * 3  # steps, branches of Eq. 3
    dear = gym.make(cc2env.ENV_ID, world=folder, sampler_steps=5, guidance_text=1, guidance_camera=1)
    _, info = dear.reset(seed=0, options={"prompt": "box"})
    assert info["prompt"] == "box" and dear.step(env.action_space.sample())[-1]["function_evaluations"] == 5


def test_long_flights_do_not_fill_the_memory(learned_folder):
    env = gym.make(cc2env.ENV_ID, world=learned_folder)
    env.reset(seed=0)
    sizes = []
    for _ in range(14):
        env.step(np.zeros((4, 6), np.float32))
        held = [item for item in gc.get_objects() if type(item) is torch.Tensor]
        sizes.append((len(held), sum(item.numel() for item in held)))
        del held
    assert len(set(sizes[9:])) == 1


@pytest.mark.parametrize("injection", [*INJECTIONS, "first_by_clip"])
def test_a_world_whose_camera_enters_another_way_flies_like_any_other(random_world, tmp_path, injection):
    name, _, by_clip = injection.partition("_by_")
    config = dataclasses.replace(random_world.dit.config, camera_injection=name, camera_reference=by_clip or "episode")
    dit = VideoDiT(config)
    for weight in dit.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    dataclasses.replace(random_world, dit=dit).save(tmp_path)
    env = gym.make(cc2env.ENV_ID, world=str(tmp_path))
    actions = [np.full(env.action_space.shape, speed, np.float32) for speed in (0.0, 0.15)]
    films = []
    for action in actions:
        env.reset(seed=3)
        films.append(np.concatenate([env.step(action)[0] for _ in range(2)]))
    assert films[0].shape == (32, 16, 32, 3) and (films[0] != films[1]).any()


def test_a_folder_from_before_there_were_other_ways_of_the_camera_has_the_papers():
    folder = world_folder("tiny") / "dit"
    assert "camera_injection" not in (folder / "config.yaml").read_text()
    config = load_config(folder, VideoDiTConfig)
    assert (config.camera_injection, config.camera_reference, config.still_channels) == ("first", "episode", 0)
