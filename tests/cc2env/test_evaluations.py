"""`function_evaluations` is what the network did, after every kind of call, in all three environments."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.dit.video_dit import VideoDiT
from model.pretrained import shipped_worlds
from model.world.load import load_world
from model.world.options import WorldOptions

OPENING, CLIP = 8, 2 * 3  # steps times branches of Eq. 3, of the folder's world
STILL = np.zeros((2, 4, 6), np.float32)


@pytest.fixture
def samples(learned_folder, monkeypatch):
    """The samples that go through the network, call by call."""
    counted = []
    forward = VideoDiT.forward

    def counting(self, latents, *arguments, **options):
        counted.append(len(latents))
        return forward(self, latents, *arguments, **options)

    monkeypatch.setattr(VideoDiT, "forward", counting)
    return counted


def drain(samples):
    total = sum(samples)
    samples.clear()
    return total


def test_single_environment(learned_folder, samples):
    env = CameraCtrlWorldEnv(learned_folder)
    picture = np.zeros((16, 32, 3), np.uint8)
    for options, opening, clip in (
        ({}, OPENING, CLIP),
        ({"prompt": "red box"}, OPENING, CLIP),
        ({"prompt": ""}, OPENING, CLIP * 2 // 3),  # without text two branches of Eq. 3 are one
        ({"image": picture}, 0, CLIP * 2 // 3),
        ({"image": picture, "prompt": "red box"}, 0, CLIP),
    ):
        info = env.reset(seed=0, options=options)[1]
        assert info["function_evaluations"] == drain(samples) == opening, options
        info = env.step(STILL[0])[-1]
        assert info["function_evaluations"] == drain(samples) == clip, options
    assert CameraCtrlWorldEnv("synthetic").reset(seed=0)[1]["function_evaluations"] == 0


def test_longer_clips_and_other_steps(learned_folder, samples):
    env = CameraCtrlWorldEnv(learned_folder, poses_per_clip=8, sampler_steps=3)
    env.reset(seed=0)
    drain(samples)
    assert env.step(np.zeros((8, 6), np.float32))[-1]["function_evaluations"] == drain(samples) == 2 * 3 * 3


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_vector_environment(learned_folder, samples, mode):
    envs = CameraCtrlWorldVectorEnv(2, learned_folder, max_episode_steps=1, autoreset_mode=mode)
    counted = [envs.reset(seed=0)[1]["function_evaluations"]]
    done = [drain(samples)]
    for _ in range(2):
        if mode is AutoresetMode.DISABLED and len(counted) == 2:
            infos = envs.reset(options={"reset_mask": np.array([False, True])})[1]
        else:
            infos = envs.step(STILL)[-1]
        counted.append(infos["function_evaluations"])
        done.append(drain(samples))
        final = infos.get("final_info", {}).get("function_evaluations", np.zeros(2))
        assert done[-1] == counted[-1].sum() + final.sum()
    expected = {
        AutoresetMode.SAME_STEP: [OPENING] * 2,
        AutoresetMode.NEXT_STEP: [OPENING] * 2,
        AutoresetMode.DISABLED: [0, OPENING],  # the first row was not reset
    }
    assert counted[0].tolist() == [OPENING] * 2 and counted[-1].tolist() == expected[mode]


def test_rows_with_and_without_a_prompt(learned_folder, samples):
    """Rows that share a call of the network share its branches."""
    envs = CameraCtrlWorldVectorEnv(2, learned_folder)
    for prompts, clip in ((["red box", ""], CLIP), (["", ""], CLIP * 2 // 3)):
        envs.reset(seed=0, options={"prompt": prompts})
        drain(samples)
        infos = envs.step(STILL)[-1]
        assert infos["function_evaluations"].tolist() == [clip] * 2 and drain(samples) == 2 * clip


def test_torchrl_environment(learned_folder, samples):
    env = CameraCtrlWorldTorchRLEnv(2, learned_folder)
    td = env.reset()
    assert td["function_evaluations"].tolist() == [[OPENING]] * 2 and drain(samples) == 2 * OPENING
    moment = env.snapshot()
    td = env.step(td.set("action", torch.from_numpy(STILL)))["next"]
    assert td["function_evaluations"].tolist() == [[CLIP]] * 2 and drain(samples) == 2 * CLIP
    assert env.restore(moment)["function_evaluations"].tolist() == [[0]] * 2 and drain(samples) == 0


def test_settings_of_clips_leave_the_opening_alone(learned_folder, samples):
    """A faster preset must not show another picture than the prompt's."""
    first = gym.make(cc2env.ENV_ID, world=learned_folder).reset(seed=0)[0]
    drain(samples)
    fast = {"sampler_steps": 1, "guidance_text": 1.0, "guidance_camera": 1.0}
    frames, info = gym.make(cc2env.ENV_ID, world=learned_folder, **fast).reset(seed=0)
    assert (frames == first).all() and info["function_evaluations"] == drain(samples) == OPENING


@pytest.mark.parametrize("name", shipped_worlds())
def test_the_shipped_worlds_opening_keeps_its_guidance(name):
    few = WorldOptions(sampler_steps=2, guidance_text=1.0, guidance_camera=1.0)
    plain, fast = load_world(name), load_world(name, few)
    assert (plain.spec.evaluations_per_opening, plain.spec.evaluations_per_clip) == (16, 4)
    assert (fast.spec.evaluations_per_opening, fast.spec.evaluations_per_clip) == (16, 2)
