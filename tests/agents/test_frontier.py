"""The frontier policy flies to where most is new, reads only `info`, and stays right after `restore`."""

import numpy as np
import pytest

from agents.frontier import FrontierPolicy, fan_of_moves
from agents.rollout import rollout
from agents.scripted import ScriptedPolicy
from cc2env.env import CameraCtrlWorldEnv


@pytest.fixture
def env(blank_world):
    return CameraCtrlWorldEnv(blank_world, task="Explore", voxel=1.0)


def earned(env, policy, num_clips):
    return sum(rollout(env, policy, num_clips, seed=0, show_progress=False).rewards)


def test_its_moves_are_different_and_inside_the_bounds(env):
    moves = fan_of_moves(env.action_space)
    assert all(env.action_space.contains(move) for move in moves)
    assert len(np.unique(moves, axis=0)) == len(moves)


def test_it_sees_more_than_scripts_do(env):
    frontier = earned(env, FrontierPolicy(env.action_space, voxel=1.0), 6)
    for script in ("forward", "look_around", "walk", "circle"):
        assert frontier > 1.2 * earned(env, ScriptedPolicy(env.action_space, script), 6)


def test_it_looks_away_from_what_it_has_seen(env):
    """After a full turn on the spot, turning on shows nothing: it leaves."""
    policy = FrontierPolicy(env.action_space, voxel=1.0)
    observation, info = env.reset(seed=0)
    pan = np.tile(np.float32([0, 0, 0, 0, 0.2, 0]), (4, 1))
    assert np.abs(policy.act(observation, info)[:, 4]).max() > 0  # at first turning shows most
    for _ in range(8):
        observation, _, _, _, info = env.step(pan)
        action = policy.act(observation, info)
    assert np.linalg.norm(action[:, :3].sum(axis=0)) > 0.5


def test_it_goes_on_rightly_after_the_episode_went_back(env):
    policy = FrontierPolicy(env.action_space, voxel=1.0)
    observation, info = env.reset(seed=0)
    acted, moments = [], []
    for _ in range(4):
        moments.append((env.snapshot(), observation, info))
        acted.append(policy.act(observation, info))
        observation, _, _, _, info = env.step(acted[-1])
    env.restore(moments[1][0])
    assert (policy.act(*moments[1][1:]) == acted[1]).all()
    assert (policy.act(*moments[0][1:]) == acted[0]).all()  # and from the start: as a new episode
    assert (FrontierPolicy(env.action_space, voxel=1.0).act(*moments[0][1:]) == acted[0]).all()


def test_what_lies_outside_of_the_region_does_not_draw_it(env):
    """In a region without a single cell every move is worth nothing, so it keeps to the first."""
    policy = FrontierPolicy(env.action_space, extent=1e-3)
    assert (policy.act(*env.reset(seed=0)) == policy.actions[0]).all()


@pytest.mark.parametrize("name", ["reach", "voxel", "shortest", "extent"])
def test_bad_lengths_are_named(env, name):
    with pytest.raises(ValueError, match=f"^{name}: expected a positive number of metres, got -1"):
        FrontierPolicy(env.action_space, **{name: -1.0})
