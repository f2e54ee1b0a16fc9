"""A vector wrapper makes of each row what the single wrapper of its name makes of it."""

import subprocess
import sys
import textwrap

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from cc2env import wrappers
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from cc2env.wrappers import vector

ARGUMENTS = {"FrameSkip": {"every": 8}, "ResizeClip": {"height": 24, "width": 40}}


def make(name, **arguments):
    """Two rows in the renderer's world under the vector wrapper, and their twins under the single one."""
    envs = CameraCtrlWorldVectorEnv(2, "synthetic", max_episode_steps=2, **arguments)
    wrapped = getattr(vector, name)(envs, **ARGUMENTS.get(name, {}))
    twins = gym.make_vec(
        cc2env.ENV_ID,
        num_envs=2,
        world="synthetic",
        max_episode_steps=2,
        vectorization_mode="sync",
        wrappers=[lambda env: getattr(wrappers, name)(env, **ARGUMENTS.get(name, {}))],
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
    )
    return wrapped, twins


@pytest.mark.parametrize("name", vector.__all__)
def test_rows_are_those_of_the_single_wrapper(name, assert_same):
    wrapped, twins = make(name)
    assert wrapped.single_observation_space == twins.single_observation_space
    assert wrapped.observation_space == twins.observation_space
    assert wrapped.single_action_space == twins.single_action_space and wrapped.action_space == twins.action_space
    first, _ = wrapped.reset(seed=5)
    assert_same(first, twins.reset(seed=5)[0])
    wrapped.action_space.seed(0)
    for _ in range(3):  # the second ends the episodes
        actions = wrapped.action_space.sample()
        ours, theirs = wrapped.step(actions), twins.step(actions)
        assert_same(ours[0], theirs[0])
        assert ours[0] in wrapped.observation_space
        assert ("final_obs" in ours[4]) == ("final_obs" in theirs[4])
        if "final_obs" in ours[4]:
            assert_same(ours[4]["final_obs"], theirs[4]["final_obs"])


def test_they_stack_and_the_rows_go_on_sharing_one_call():
    envs = vector.ChannelFirst(vector.LastFrame(vector.DiscreteActions(gym.make_vec(
        cc2env.ENV_ID, num_envs=3, world="synthetic"
    ))))  # fmt: skip
    assert isinstance(envs.unwrapped, CameraCtrlWorldVectorEnv)
    assert envs.reset(seed=0)[0].shape == (3, 3, 48, 80)
    infos = envs.step(np.array([0, 1, 2]))[4]
    assert np.allclose(infos["c2w"][:, -1, 2, 3], [0, 1.2, -1.2])  # stay, forward, back


def test_observations_are_not_overwritten_by_the_next_step():
    envs, _ = make("LastFrame")
    first = envs.reset(seed=0)[0]
    kept = first.copy()
    envs.step(np.full((2, 4, 6), 0.1, np.float32))
    assert (first == kept).all()


@pytest.mark.parametrize("actions", [np.array([0]), np.array([0, 1, 2]), np.array([0, 99]), np.array([0, -1])])
def test_wrong_keys_change_nothing(actions):
    envs, _ = make("DiscreteActions")
    envs.reset(seed=0)
    with pytest.raises(ValueError):
        envs.step(actions)
    assert envs.unwrapped.snapshot().session.clip_index.tolist() == [0, 0]


def test_single_wrappers_say_where_the_vector_ones_are():
    """In a process of its own: here the types of all arguments are checked before."""
    code = """
    from cc2env import wrappers
    from cc2env.wrappers import vector
    from cc2env.vector_env import CameraCtrlWorldVectorEnv
    envs = CameraCtrlWorldVectorEnv(2, "synthetic")
    given = {"FrameSkip": [8], "ResizeClip": [24, 40]}
    for name in vector.__all__:
        try:
            getattr(wrappers, name)(envs, *given.get(name, []))
        except TypeError as error:
            print(name, error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == vector.__all__
    assert all("env: expected a single environment" in line and "cc2env.wrappers.vector" in line for line in lines)
