"""The vector environment is many single ones: the same bytes, infos and ends, in one call for all rows."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.tasks import Task
from cc2env.vector_env import CameraCtrlWorldVectorEnv


def sampled(envs, count, seed=0):
    envs.action_space.seed(seed)
    return [envs.action_space.sample() for _ in range(count)]


class ReportsValue(Task):
    """Its `info` holds one given value."""

    def __init__(self, *values):
        self.values = values

    def judge(self, memory, transition):
        return memory, 0.0, False

    def info(self, memory):
        return {"reported": self.values[0], "length": 2.0}


@pytest.mark.parametrize("value", ["find the red ball", None, {"a": 1, "b": "text"}, [1, 2], np.float32(3)])
def test_the_info_of_a_task_is_stacked_as_gymnasium_does(flat_world, value, assert_same):
    envs = CameraCtrlWorldVectorEnv(2, flat_world, task=ReportsValue(value))
    oracle = SyncVectorEnv([lambda: CameraCtrlWorldEnv(flat_world, task=ReportsValue(value))] * 2)
    action = sampled(envs, 1)[0]
    assert_same(envs.reset(seed=5), oracle.reset(seed=5))
    assert_same(envs.step(action), oracle.step(action))
    env = CameraCtrlWorldEnv(flat_world, task=ReportsValue(value))
    env.reset(seed=5)
    assert "reported" in env.fork(2).step(action)[4]
    infos = envs.reset(options={"reset_mask": np.array([True, False])})[1]
    assert infos["_reported"].tolist() == [True, False] and infos["length"].tolist() == [2.0, 0.0]
    if isinstance(value, str):
        assert infos["reported"].tolist() == [value, None]


def test_a_task_may_report_a_number_or_nothing(flat_world):
    class Best(Task):
        def open(self, opening):
            return {"best": np.array(opening.first_frame[0, 0, 0] % 2)}

        def judge(self, memory, transition):
            return memory, 0.0, False

        def info(self, memory):
            return {"best": 2.5 if memory["best"] else None}

    envs = CameraCtrlWorldVectorEnv(8, flat_world, task=Best())
    assert set(envs.reset(seed=0)[1]["best"].tolist()) == {2.5, None}


class CountingWorld:
    """Counts the calls that reach a world."""

    def __init__(self, world):
        self.world, self.spec, self.batches = world, world.spec, []

    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        return self.world.start(seeds, prompts, images, intrinsics)

    def extend(self, state, c2w):
        self.batches.append(len(c2w))
        return self.world.extend(state, c2w)


def test_make_vec_gives_the_batched_environment():
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world="synthetic", vectorization_mode="vector_entry_point")
    assert isinstance(envs, CameraCtrlWorldVectorEnv) and envs.spec.id == cc2env.ENV_ID
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space and infos["c2w"].shape == (2, 4, 4, 4)
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    assert observations in envs.observation_space and observations.shape == (2, 16, 48, 80, 3)
    for values, dtype in ((rewards, np.float64), (terminations, np.bool_), (truncations, np.bool_)):
        assert values.shape == (2,) and values.dtype == dtype and not values.any()
    envs.close()
    short = gym.make_vec(cc2env.ENV_ID, num_envs=1, world="synthetic", max_episode_steps=1, autoreset_mode="NextStep")
    assert short.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    short.reset(seed=0)
    assert short.step(short.action_space.sample())[3].all()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_is_gymnasiums_own_vector_of_single_environments(flat_world, mode, assert_same):
    """Every return value of every call, through ends and resets by themselves."""
    envs = CameraCtrlWorldVectorEnv(3, flat_world, max_episode_steps=2, autoreset_mode=mode)
    oracle = SyncVectorEnv([lambda: TimeLimit(CameraCtrlWorldEnv(flat_world), 2)] * 3, autoreset_mode=mode)
    assert envs.observation_space == oracle.observation_space and envs.action_space == oracle.action_space
    assert_same(envs.reset(seed=5), oracle.reset(seed=5))
    assert envs.np_random_seed == oracle.np_random_seed == (5, 6, 7)
    if mode is AutoresetMode.DISABLED:  # rows of different age
        mask = np.array([False, True, False])
        envs.step(sampled(envs, 1)[0]), oracle.step(sampled(envs, 1)[0])
        options = {"reset_mask": mask}
        assert_same(envs.reset(options=options), oracle.reset(options=dict(options)))
    for actions in sampled(envs, 5):
        given, expected = envs.step(actions), oracle.step(actions)
        assert_same(given, expected)
        over = given[2] | given[3]
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over}
            assert_same(envs.reset(options=options), oracle.reset(options=dict(options)))


def test_rows_of_the_renderers_world_are_single_environments_to_the_bit(small_world, assert_same):
    envs = CameraCtrlWorldVectorEnv(2, small_world, max_episode_steps=2)
    oracle = SyncVectorEnv(
        [lambda: TimeLimit(CameraCtrlWorldEnv(small_world), 2)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert_same(envs.reset(seed=[5, 3]), oracle.reset(seed=[5, 3]))
    for actions in sampled(envs, 3):
        assert_same(envs.step(actions), oracle.step(actions))


def test_a_row_of_a_learned_batch_is_the_single_environment(learned_folder):
    envs = CameraCtrlWorldVectorEnv(3, learned_folder)
    clips, infos = [envs.reset(seed=[11, 3, 7])[0]], []
    actions = sampled(envs, 3)
    for action in actions:
        observations, *_, info = envs.step(action)
        clips.append(observations), infos.append(info)
    for row, seed in enumerate([11, 3, 7]):
        env = CameraCtrlWorldEnv(learned_folder)
        single = [env.reset(seed=seed)[0]]
        for action, batched in zip(actions, infos, strict=True):
            observation, *_, info = env.step(action[row])
            single.append(observation)
            assert info["prompt"] == batched["prompt"][row] and (info["c2w"] == batched["c2w"][row]).all()
        # matrix kernels may differ with the batch size: one grey level
        assert max(np.abs(a.astype(int) - b[row]).max() for a, b in zip(single, clips, strict=True)) <= 1


def test_a_step_is_one_call_for_all_rows(flat_world):
    world = CountingWorld(flat_world)
    envs = CameraCtrlWorldVectorEnv(4, world, max_episode_steps=2)
    envs.reset(seed=0)
    for action in sampled(envs, 4):
        envs.step(action)
    assert world.batches == [4, 4, 4, 4]


def test_seeds_are_given_to_each_row(flat_world):
    envs = CameraCtrlWorldVectorEnv(3, flat_world)
    first = envs.reset(seed=[4, 4, 9])[0]
    assert (first[0] == first[1]).all() and (first[0] != first[2]).any()
    second = envs.reset(seed=[4, None, 9])[0]
    assert (second[[0, 2]] == first[[0, 2]]).all() and (second[1] != first[1]).any()
    assert (envs.reset(seed=4)[0][0] == first[0]).all()
    with pytest.raises(ValueError, match=r"^seed: expected an integer or 3 of them, got 2"):
        envs.reset(seed=[1, 2])
    with pytest.raises(ValueError, match=r"^seed: expected integers of at least 0, got -1"):
        envs.reset(seed=[1, 2, -1])


def test_reset_mask_leaves_the_other_rows_in_flight(flat_world):
    envs, untroubled = (CameraCtrlWorldVectorEnv(3, flat_world, autoreset_mode="Disabled") for _ in range(2))
    envs.reset(seed=0), untroubled.reset(seed=0)
    before, after = sampled(envs, 2)
    envs.step(before), untroubled.step(before)
    mask = np.array([False, True, False])
    observations, infos = envs.reset(seed=[None, 50, None], options={"reset_mask": mask})
    assert (infos["_clip_index"] == mask).all() and infos["prompt"][0] is None
    fresh = CameraCtrlWorldEnv(flat_world)
    assert (observations[1] == fresh.reset(seed=50)[0]).all()
    flown, expected = envs.step(after), untroubled.step(after)
    assert (flown[0][[0, 2]] == expected[0][[0, 2]]).all() and flown[-1]["clip_index"].tolist() == [2, 1, 2]
    assert (flown[0][1] == fresh.step(after[1])[0]).all()


def test_disabled_does_not_fly_on_after_the_end(flat_world):
    envs = CameraCtrlWorldVectorEnv(2, flat_world, max_episode_steps=1, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    action = sampled(envs, 1)[0]
    truncations = envs.step(action)[3]
    with pytest.raises(ResetNeeded, match=r"rows \[0, 1\] are over"):
        envs.step(action)
    envs.reset(options={"reset_mask": truncations})
    assert envs.step(action)[3].all()


def test_options_are_for_all_rows_or_for_each(flat_world, learned_folder):
    envs = CameraCtrlWorldVectorEnv(2, flat_world)
    assert envs.reset(options={"prompt": "dusk"})[1]["prompt"].tolist() == ["dusk", "dusk"]
    assert flat_world.started_with["prompts"] == ["dusk", "dusk"]
    pictures = np.stack([np.full((6, 10, 3), value, np.uint8) for value in (9, 200)])
    for images in (pictures, list(pictures)):
        envs.reset(options={"prompt": ["dusk", "dawn"], "image": images})
        assert (flat_world.started_with["images"].numpy() == pictures).all()
    mask = np.array([False, True])
    infos = envs.reset(options={"prompt": ["dusk", "noon"], "image": pictures, "reset_mask": mask})[1]
    assert flat_world.started_with["prompts"] == ["noon"] and infos["prompt"].tolist() == [None, "noon"]
    assert (flat_world.started_with["images"].numpy() == pictures[1:]).all()
    learned = CameraCtrlWorldVectorEnv(2, learned_folder)
    own = learned.reset(seed=0)[1]["prompt"]
    assert learned.reset(seed=0, options={"prompt": ["blue", None]})[1]["prompt"].tolist() == ["blue", own[1]]


def test_render_shows_each_row(flat_world):
    envs = CameraCtrlWorldVectorEnv(2, flat_world, render_mode="rgb_array_list", autoreset_mode="Disabled")
    envs.reset(seed=0)
    observations = envs.step(sampled(envs, 1)[0])[0]
    envs.reset(options={"reset_mask": np.array([True, False])})
    films = envs.render()
    assert [len(film) for film in films] == [1, 16] and (np.stack(films[1]) == observations[1]).all()
    envs.render_mode = "rgb_array"
    assert (envs.render()[1] == observations[1][-1]).all()
