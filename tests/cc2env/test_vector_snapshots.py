"""Snapshots, forks and pickles of the vector environment continue the same episodes, row by row."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.pretrained import shipped_worlds


def sampled(envs, count, seed=0):
    envs.action_space.seed(seed)
    return [envs.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("world", ["flat_world", "learned_folder"])
def test_snapshots_are_exact_and_can_be_restored_row_by_row(request, world, assert_same):
    world = request.getfixturevalue(world)
    envs = CameraCtrlWorldVectorEnv(2, world, max_episode_steps=3)
    actions = sampled(envs, 5)
    envs.reset(seed=0)
    envs.step(actions[0])
    kept = envs.snapshot()
    ahead = [envs.step(action) for action in actions[1:]]  # resets among them
    for each in (envs, CameraCtrlWorldVectorEnv(2, world, max_episode_steps=3)):
        each.restore(kept)
        assert_same([each.step(action) for action in actions[1:]], ahead)
    envs.restore(kept)
    envs.step(actions[1])
    envs.restore(kept[[1]], rows=[0])  # row 0 becomes what row 1 was
    observations = envs.step(actions[1][[1, 0]])[0]
    assert np.abs(observations[0].astype(int) - ahead[0][0][1]).max() <= (0 if world != "learned" else 1)
    for rows in ([2], [-1], [0, 0]):
        with pytest.raises(ValueError, match=r"^rows: expected different rows in 0\.\.1"):
            envs.restore(kept[[0] * len(rows)], rows=rows)
    with pytest.raises(ValueError, match=r"^snapshot: expected 2 row\(s\)"):
        envs.restore(kept[[0, 1, 1]])


@pytest.mark.parametrize(
    "world", ["flat_world", "learned_folder", "tiny", pytest.param("small", marks=pytest.mark.slow)]
)
def test_an_episode_forks_into_a_batch_of_futures(request, world):
    if world in shipped_worlds():
        env = CameraCtrlWorldEnv(world, sampler="fast")
    else:
        env = CameraCtrlWorldEnv(request.getfixturevalue(world))
    env.reset(seed=3)
    env.action_space.seed(1)
    env.step(env.action_space.sample())
    moment = env.snapshot()
    futures = env.fork(3)
    plans = sampled(futures, 2)
    looked = [futures.step(plan)[0] for plan in plans]
    assert (looked[-1][0] != looked[-1][1]).any()
    for row in range(3):
        env.restore(moment)
        for plan, clips in zip(plans, looked, strict=True):
            observation = env.step(plan[row])[0]
            assert np.abs(observation.astype(int) - clips[row]).max() <= 1
    futures.restore(env.snapshot().fork(3))
    same = futures.step(np.repeat(plans[0][:1], 3, axis=0))[0]
    assert (same[0] == same[1]).all() and (same[0] == same[2]).all()
    with pytest.raises(ValueError, match=r"^num_futures: expected an integer of at least 1"):
        env.fork(0)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("kind", ["single", "vector"])
def test_pickles_go_on_where_they_were(learned_folder, kind, started, assert_same):
    env = CameraCtrlWorldEnv(learned_folder) if kind == "single" else CameraCtrlWorldVectorEnv(2, learned_folder)
    if started:
        env.reset(seed=0)
        env.step(sampled(env, 1)[0])
    copy = pickle.loads(pickle.dumps(env))
    if not started:
        assert_same(env.reset(seed=3), copy.reset(seed=3))
    actions = sampled(env, 2)
    assert_same([env.step(action) for action in actions], [copy.step(action) for action in actions])
    assert_same(env.reset(), copy.reset())  # the random generators came with it


def test_async_vectors_fly_the_same_episodes(learned_folder):
    arguments = {"num_envs": 2, "world": learned_folder}
    apart = gym.make_vec(cc2env.ENV_ID, vectorization_mode="async", **arguments)
    together = gym.make_vec(cc2env.ENV_ID, vectorization_mode="vector_entry_point", **arguments)
    try:
        first, expected = apart.reset(seed=0)[0], together.reset(seed=0)[0]
        assert np.abs(first.astype(int) - expected).max() <= 1
        for action in sampled(together, 2):
            flown, expected = apart.step(action)[0], together.step(action)[0]
            assert np.abs(flown.astype(int) - expected).max() <= 1
    finally:
        apart.close()


def test_environments_of_one_process_do_not_disturb_each_other(learned_folder, assert_same):
    """Nor does anything reach the global generators of numpy and torch."""
    alone = CameraCtrlWorldVectorEnv(2, learned_folder)
    actions = sampled(alone, 3)
    expected = [alone.reset(seed=0), *(alone.step(action) for action in actions)]
    one, other = (CameraCtrlWorldVectorEnv(2, learned_folder) for _ in range(2))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    flown = [one.reset(seed=0)]
    other.reset(seed=9, options={"prompt": "blue"})
    for action in actions:
        other.step(np.zeros_like(action))
        flown.append(one.step(action))
        other.reset()
    assert_same(flown, expected)
    assert (torch.get_rng_state() == before[0]).all() and np.random.get_state()[1].tolist() == before[1]
