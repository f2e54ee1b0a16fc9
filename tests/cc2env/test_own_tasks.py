"""A user's reward and task: used in place of the shipped ones, and errors in them leave the episode as it was."""

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from cc2env import rewards, tasks

HOME = np.eye(4, dtype=np.float32)
STILL = np.zeros((4, 6), np.float32)
FORWARD = STILL.copy()
FORWARD[:, 2] = 0.5
DOWN = STILL.copy()
DOWN[:, 1] = 0.5


def test_a_users_reward_takes_the_place_of_the_tasks(world, make):
    seen = []

    def height(transition: rewards.Transition) -> float:
        seen.append(transition)
        return -float(transition.c2w[-1, 1, 3])

    env = make(world, "HoldStill", reward=height)
    observation, reward, *_, info = env.step(DOWN * -0.5)
    assert reward == pytest.approx(1.0) and info["moved"] == pytest.approx(1.0)
    transition = seen[0]
    assert (transition.frames == observation).all() and (transition.start_c2w == HOME).all()
    assert (transition.c2w == info["c2w"]).all() and transition.clip_index == 1 and not transition.blocked
    assert transition.first_frame.shape == (16, 24, 3)
    made = gym.make(cc2env.ENV_ID, world="synthetic", reward=height)
    made.reset(seed=0)
    assert made.step(STILL)[1] == 0


def test_a_reward_that_is_no_number_leaves_the_episode(world, make):
    values = iter([float("nan"), 2.5])
    env = make(world, reward=lambda transition: next(values))
    with pytest.raises(ValueError, match=r"^reward: expected a finite number, got nan"):
        env.step(FORWARD)
    _, reward, *_, info = env.step(FORWARD)
    assert reward == 2.5 and info["clip_index"] == 1 and info["c2w"][-1, 2, 3] == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["start_c2w", "c2w", "commanded_c2w", "frames", "first_frame", "intrinsics"])
def test_a_reward_that_writes_into_the_episode_is_an_error(world, name, make):
    def greedy(transition):
        getattr(transition, name)[...] = 0
        return 0.0

    env = make(world, reward=greedy)
    before = env.snapshot()
    with pytest.raises(ValueError, match="read-only"):
        env.step(FORWARD)
    assert (env.snapshot().to_tensordict() == before.to_tensordict()).all()


@pytest.mark.parametrize("where", ["open", "judge", "info"])
def test_a_task_that_writes_into_the_episode_is_an_error(world, where, make):
    class Greedy(tasks.Task):
        def open(self, opening):
            if where == "open":
                opening.first_frame[...] = 0
            return {"height": np.zeros(2)}

        def judge(self, memory, transition):
            if where == "judge":
                memory["height"][0] = 1
            return memory, 0.0, False

        def info(self, memory):
            if where == "info":
                memory["height"] += 1
            return {}

    with pytest.raises(ValueError, match="read-only"):
        make(world, Greedy()).step(FORWARD)


@pytest.mark.parametrize("earned", [float("nan"), float("inf"), None, "much"])
def test_a_task_that_earns_no_number_leaves_the_episode(world, earned, make):
    class Odd(tasks.Task):
        def judge(self, memory, transition):
            return memory, earned, False

    env = make(world, Odd())
    with pytest.raises(ValueError, match=r"^reward: expected a finite number, got "):
        env.step(FORWARD)
    assert env.snapshot().session.clip_index.tolist() == [0]


def test_a_users_task_plays(world, make):
    class Rise(tasks.Task):
        def open(self, opening):
            return {"height": np.array(0.0)}

        def judge(self, memory, transition):
            height = -float(transition.c2w[-1, 1, 3])
            return {"height": np.array(height)}, height - float(memory["height"]), height > 1.5

        def info(self, memory):
            return {"height": float(memory["height"])}

    env = make(world, Rise())
    first, second = env.step(DOWN * -0.5), env.step(DOWN * -0.5)
    assert first[1] == pytest.approx(1.0) and not first[2]
    assert second[1] == pytest.approx(1.0) and second[2] and second[4]["height"] == pytest.approx(2.0)
