"""The vector environment refuses wrong arguments, options and actions by name, and the episodes stay as they were."""

import pickle

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from cc2env.env import CameraCtrlWorldEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv


def sampled(envs, count, seed=0):
    envs.action_space.seed(seed)
    return [envs.action_space.sample() for _ in range(count)]


def test_numbers_of_numpy_are_numbers(flat_world):
    envs = CameraCtrlWorldVectorEnv(np.int64(2), flat_world, max_episode_steps=np.int32(1))
    envs.reset(seed=0)
    assert type(envs.num_envs) is int and envs.step(sampled(envs, 1)[0])[3].all()
    env = CameraCtrlWorldEnv(flat_world)
    env.reset(seed=0)
    assert env.fork(np.int64(2)).num_envs == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"promt": "dusk"}, r"options: expected keys among .* got \['promt'\]"),
        ({"prompt": 3}, "prompt: expected a string or a list of them, got int"),
        ({"prompt": ["dusk"]}, "prompt: expected one for each of 2 rows, got 1"),
        ({"image": [np.zeros((6, 10, 3), np.uint8)]}, "image: expected one for each of 2 rows, got 1"),
        ({"image": 3}, "image: expected a path, a uint8 array"),
        ({"reset_mask": np.zeros(2, bool)}, r"reset_mask: expected a bool array of shape \(2,\) with at least one"),
        ({"reset_mask": np.ones(3, bool)}, r"reset_mask: expected a bool array of shape \(2,\)"),
        ({"reset_mask": np.ones(2, int)}, r"reset_mask: expected a bool array of shape \(2,\)"),
    ],
)
def test_bad_options_name_themselves_and_leave_the_episodes(flat_world, options, message):
    envs = CameraCtrlWorldVectorEnv(2, flat_world)
    envs.reset(seed=0)
    envs.step(sampled(envs, 1)[0])
    with pytest.raises(ValueError, match=f"^{message}"):
        envs.reset(options=options)
    assert envs.step(sampled(envs, 1)[0])[-1]["clip_index"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs: expected an integer of at least 1, got 0"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected None or an integer of at least 1, got 0"),
        ({"autoreset_mode": "sometimes"}, "autoreset_mode: expected one of .* got 'sometimes'"),
        ({"render_mode": "human"}, "render_mode: expected None or one of"),
        ({"poses_per_clip": 5}, "poses_per_clip: "),
        ({"horizontal_fov_deg": 200.0}, "horizontal_fov_deg: "),
    ],
)
def test_bad_arguments_name_themselves(flat_world, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CameraCtrlWorldVectorEnv(world=flat_world, **arguments)


def test_nothing_works_before_reset(flat_world):
    envs = CameraCtrlWorldVectorEnv(2, flat_world, render_mode="rgb_array")
    for call in (lambda: envs.step(envs.action_space.sample()), envs.render, envs.snapshot):
        with pytest.raises(ResetNeeded, match="expected running episodes, got none"):
            call()
    with pytest.raises(ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("broken", ["extend", "start"])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_a_failed_step_leaves_everything_as_it_was(flat_world, broken, mode, assert_same, monkeypatch):
    """Also when the clip is whole and the reset after it breaks, and with it the random generators."""
    envs, untroubled = (
        CameraCtrlWorldVectorEnv(3, flat_world, max_episode_steps=2, autoreset_mode=mode) for _ in range(2)
    )
    actions = sampled(envs, 5)
    results = []
    for each in (envs, untroubled):
        each.reset(seed=0)
        each.restore(each.snapshot()[[0]], rows=[2])
        each.step(actions[0])

    def fail(*_, **__):
        raise RuntimeError("the network broke")

    for action in actions[1:]:
        with monkeypatch.context() as patch:
            patch.setattr(flat_world, broken, fail)
            results.append(broken == "extend")
            try:
                copy = pickle.loads(pickle.dumps(envs.snapshot()))
                envs.step(action)
            except RuntimeError:
                results[-1] = True
            else:
                envs.restore(copy)  # nothing was to be reset: no call broke
        assert_same(envs.step(action), untroubled.step(action))
    assert any(results)


def test_a_bad_action_in_one_row_moves_none(flat_world, assert_same):
    envs, untroubled = (CameraCtrlWorldVectorEnv(2, flat_world) for _ in range(2))
    envs.reset(seed=0), untroubled.reset(seed=0)
    action = sampled(envs, 1)[0]
    for value in (np.nan, np.inf, 5.0):
        bad = action.copy()
        bad[1, 2, 3] = value
        with pytest.raises(ValueError, match=r"^action: expected .* at \(1, 2, 3\)"):
            envs.step(bad)
    with pytest.raises(ValueError, match=r"^action: expected shape \(2, 4, 6\), got \(4, 6\)"):
        envs.step(action[0])
    assert_same(envs.step(action), untroubled.step(action))
