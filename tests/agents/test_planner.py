"""The planner: forks leave the episode unchanged, both predictors of rewards agree, and plans earn more."""

import numpy as np
import pytest
import torch

from agents.planner import Budget, ForkedFutures, PlannerPolicy, PoseFutures
from agents.random import RandomPolicy
from agents.rollout import rollout
from agents.scripted import ScriptedPolicy
from cc2env.env import CameraCtrlWorldEnv

SMALL = Budget(candidates=12, iterations=2, horizon=2)


def environment(world, task, **arguments):
    env = CameraCtrlWorldEnv(world, task=task, **arguments)
    env.reset(seed=3)
    env.step(ScriptedPolicy(env.action_space, "arc_left").act(None, {"clip_index": 0}))
    return env


def plans_for(env, horizon, count=6):
    rng = np.random.default_rng(0)
    return (rng.uniform(-1, 1, (count, horizon, 4, 6)) * env.action_space.high).astype(np.float32)


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("Explore", {}),
        # so easily reached that some futures end before others
        ("GoalView", {"success_distance": 1.2, "success_angle": 0.7}),
        ("FollowPath", {"num_clips": 3}),
        ("HoldStill", {}),
        ("LoopClosure", {}),
    ],
)
def test_forks_and_poses_predict_the_same_rewards(blank_world, task, arguments):
    env = environment(blank_world, task, **arguments)
    plans = plans_for(env, 3)
    exact, cheap = ForkedFutures(env).returns(plans), PoseFutures(env).returns(plans)
    assert np.allclose(exact, cheap, atol=1e-5)
    assert np.ptp(exact) > 0  # they do differ from plan to plan


def test_what_a_fork_earns_is_what_flying_there_earns(blank_world):
    env = environment(blank_world, "GoalView", success_distance=1.2, success_angle=0.7)
    moment, plans = env.snapshot(), plans_for(env, 3)
    ended = 0
    for plan, promised in zip(plans, ForkedFutures(env).returns(plans), strict=True):
        env.restore(moment)
        earned = 0.0
        for action in plan:
            _, reward, terminated, _, _ = env.step(action)
            earned += reward
            if terminated:
                ended += 1
                break
        assert earned == pytest.approx(promised, abs=1e-6)
    assert ended > 0  # the case that matters was met


def test_a_users_own_reward_is_planned_for(blank_world):
    def rise(transition):
        return float(transition.start_c2w[1, 3] - transition.c2w[-1, 1, 3])  # y points down

    env = environment(blank_world, None, reward=rise)
    plans = plans_for(env, 2)
    assert np.allclose(ForkedFutures(env).returns(plans), PoseFutures(env).returns(plans), atol=1e-6)
    assert (PoseFutures(env, lambda _: 1.0).returns(plans) == 2).all()  # one's own takes its place
    policy = PlannerPolicy(env, SMALL)
    observation, _, _, _, info = env.step(np.zeros((4, 6), np.float32))
    height = info["achieved_c2w"][-1, 1, 3]
    _, _, _, _, info = env.step(policy.act(observation, info))
    assert info["achieved_c2w"][-1, 1, 3] < height - 0.3


def test_looking_ahead_moves_nothing_and_is_a_function_of_seed_and_moment(blank_world):
    env = environment(blank_world, "GoalView")
    observation, _, _, _, info = env.step(np.zeros((4, 6), np.float32))
    before = env.snapshot().to_tensordict()
    first = PlannerPolicy(env, SMALL, seed=1).act(observation, info)
    policy = PlannerPolicy(env, SMALL, seed=1)
    policy.act(observation, info)
    assert (policy.act(observation, info) == first).all() and env.action_space.contains(first)
    assert (PlannerPolicy(env, SMALL, seed=2).act(observation, info) != first).any()
    after = env.snapshot().to_tensordict()
    assert all(torch.equal(after[key], before[key]) for key in before.keys(True, True))


def test_it_holds_still_where_moving_costs(blank_world):
    env = CameraCtrlWorldEnv(blank_world, task="HoldStill")
    assert sum(rollout(env, PlannerPolicy(env, SMALL), 3, seed=0, show_progress=False).rewards) == 0


@pytest.mark.parametrize("task", ["GoalView", "FollowPath"])
def test_it_earns_more_than_scripts_and_scripts_more_than_chance(blank_world, task):
    env = CameraCtrlWorldEnv(blank_world, task=task)
    planner = PlannerPolicy(env, Budget(candidates=32, iterations=4, horizon=2), imagination=PoseFutures(env))
    script = ScriptedPolicy(env.action_space, "forward forward" + " still" * 14 if task == "GoalView" else "forward")

    def earned(policy):
        return np.mean([sum(rollout(env, policy, 8, seed=s, show_progress=False).rewards) for s in range(3)])

    assert earned(planner) > earned(script) > earned(RandomPolicy(env.action_space))


def test_more_candidates_find_better_plans(blank_world):
    env = environment(blank_world, "FollowPath")
    _, _, _, _, info = env.step(np.zeros((4, 6), np.float32))
    found = []
    for candidates in (4, 256):
        budget = Budget(candidates=candidates, iterations=4, horizon=1)
        actions = [PlannerPolicy(env, budget, seed, PoseFutures(env)).act(None, info) for seed in range(3)]
        found.append(PoseFutures(env).returns(np.stack(actions)[:, None]).mean())
    assert found[1] > found[0]


@pytest.mark.parametrize("name", ["candidates", "iterations", "horizon"])
def test_budgets_too_small_are_named(name):
    with pytest.raises(ValueError, match=f"^{name}: expected an integer of at least"):
        Budget(**{name: 0})
