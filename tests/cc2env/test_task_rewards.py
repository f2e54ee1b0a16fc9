"""Each task pays what its table says, ends where it says, and draws its goals and paths by the seed."""

import numpy as np
import pytest
import torch

from cc2env import rewards
from cc2env.env import CameraCtrlWorldEnv
from cc2env.geometry import CameraTrajectory, write_realestate10k
from model.geometry import se3

HOME = np.eye(4, dtype=np.float32)
STILL = np.zeros((4, 6), np.float32)
FORWARD = STILL.copy()
FORWARD[:, 2] = 0.5
BACK = -FORWARD


def twists_between(poses):
    """The action that flies through poses from the first one."""
    chain = torch.from_numpy(np.stack(poses))
    return se3.log(se3.relative(chain[:-1], chain[1:])).numpy()


def test_arriving_is_paid_once(world, make):
    env = make(world, "GoalView", goal_clips=1, success_distance=50.0, success_angle=4.0, rotation_weight=0.0)
    assert [round(env.step(STILL)[1], 5) for _ in range(3)] == [1, 0, 0]
    env = make(world, "LoopClosure")
    steps = [env.step(action) for action in (FORWARD, BACK, STILL)]
    assert steps[1][2] and steps[2][1] == pytest.approx(0, abs=1e-5)


def test_explore_rewards_new_views_once(world, make):
    env = make(world, "Explore")
    before = env.snapshot()
    ahead = env.step(FORWARD)
    # far end of the frustum: cross-section at the reach, per metre
    camera = ahead[4]["intrinsics"]
    assert ahead[1] == pytest.approx(16 / (camera[0] * camera[1]), rel=0.1)
    assert env.step(BACK)[1] == pytest.approx(0, abs=0.2) and env.step(FORWARD)[1] == 0
    env.restore(before)
    assert env.step(STILL)[1] == 0
    turn = STILL.copy()
    turn[:, 4] = 0.2
    _, reward, terminated, _, info = env.step(turn)
    assert reward > 5 and not terminated and info["covered_volume"] > reward


def test_explore_counts_no_farther_than_its_map(world, make):
    env = make(world, "Explore", extent=16.0)
    earned = [env.step(FORWARD)[1] for _ in range(5)]
    assert earned[0] > 0 and earned[-1] == 0


@pytest.mark.parametrize(
    ("world", "most"), [("synthetic", 1), ("tiny", 4), pytest.param("small", 4, marks=pytest.mark.slow)]
)
def test_the_goal_is_reached_by_flying_its_way_and_shows_its_picture(world, most, make):
    env = make(world, "GoalView", goal_clips=1, seed=5)
    info = env.reset(seed=5)[1]
    goal, distance = info["goal_c2w"], info["goal_distance"]
    assert not info["is_success"] and distance == pytest.approx(float(rewards.pose_distance(HOME, goal)))
    assert (env.goal_image == info["goal_image"]).all()
    steps = [se3.interpolate(torch.eye(4), torch.from_numpy(goal), f / 4).numpy() for f in range(5)]
    observation, reward, terminated, _, info = env.step(twists_between(steps))
    assert terminated and info["is_success"] and reward == pytest.approx(distance + 1.0, abs=1e-4)
    # same pose, same time: the very picture, but for the rounding of the pose; a learned world came by other poses
    assert np.abs(observation[-1].astype(int) - info["goal_image"]).mean() < most


def test_goals_are_drawn_by_the_seed_and_away_from_the_start(world, make):
    env = CameraCtrlWorldEnv(world, task="GoalView", goal_clips=1)
    goals = [env.reset(seed=seed)[1]["goal_c2w"] for seed in (0, 1, 2, 0)]
    assert (goals[0] == goals[3]).all() and (goals[0] != goals[1]).any()
    distances = [rewards.pose_distance(HOME, goal) for goal in goals]
    assert min(distances) > 0.5
    with pytest.raises(AttributeError, match=r"^goal_image: "):
        _ = make(world, "Explore").goal_image


def test_looking_ahead_for_the_goal_leaves_the_episode_alone(world, make):
    env, free = make(world, "GoalView", goal_clips=1), make(world)
    assert (env.step(FORWARD)[0] == free.step(FORWARD)[0]).all()


def test_a_path_that_is_followed_costs_nothing_and_ends(world, make):
    env = CameraCtrlWorldEnv(world, task="FollowPath", num_clips=2, collision="stop")
    info, here = env.reset(seed=1)[1], HOME
    for clip in range(2):
        action = twists_between([here, *info["reference_c2w"]])
        here = info["reference_c2w"][-1]
        _, reward, terminated, _, info = env.step(action)
        assert reward == pytest.approx(0, abs=1e-4) and terminated == (clip == 1)
    still = make(world, "FollowPath", num_clips=2, seed=1)
    assert still.step(STILL)[1] < -0.3


def test_a_given_path_starts_where_the_camera_does(world, tmp_path, make):
    path = np.stack([HOME] * 7)
    path[:, 2, 3] = 10 + 0.5 * np.arange(7)
    np.save(tmp_path / "path.npy", path)
    for given in (path, str(tmp_path / "path.npy")):
        env = make(world, "FollowPath", path=given)
        _, reward, terminated, *_ = env.step(FORWARD)
        assert reward == pytest.approx(0, abs=1e-5) and not terminated
        half = FORWARD.copy()
        half[2:] = 0  # the path has two more poses
        assert env.step(half)[1:3] == (pytest.approx(0, abs=1e-5), True)


def test_a_path_in_a_text_is_followed_by_its_timestamps(world, tmp_path):
    c2w = torch.eye(4).repeat(13, 1, 1)
    c2w[:, 2, 3] = 0.05 * torch.arange(13)  # 0.6 m a second at 12 rows a second
    path = CameraTrajectory(c2w, torch.ones(13, 4))
    write_realestate10k(tmp_path / "path.txt", path, timestamps=[round(1e6 * row / 12) for row in range(13)])
    expected = [0.2, 0.4, 0.6, 0.6]
    for settings in ({"path": str(tmp_path / "path.txt")}, {"path": c2w.numpy(), "fps": 12.0}):
        info = CameraCtrlWorldEnv(world, task="FollowPath", **settings).reset(seed=0)[1]
        assert info["reference_c2w"][:, 2, 3] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match=r"^fps: expected"):
        CameraCtrlWorldEnv(world, task="FollowPath", fps=12.0)


def test_a_path_too_fast_to_follow_is_stretched_with_a_warning(world):
    path = np.stack([HOME] * 3)
    path[:, 2, 3] = np.arange(3)
    with pytest.warns(UserWarning, match="path: too fast for the action space, so it is flown 2 times as slowly"):
        info = CameraCtrlWorldEnv(world, task="FollowPath", path=path).reset(seed=0)[1]
    assert info["reference_c2w"][:, 2, 3] == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_loop_pays_the_way_out_the_way_back_and_the_likeness(world, make):
    env = make(world, "LoopClosure", distance=1.5)
    assert env.step(STILL)[1:3] == (0, False)  # being at home is not coming home
    out = env.step(FORWARD)
    # 2 m out: 1.5 are paid, and what lies beyond them is taken off, since the way back will pay it
    assert out[1] == pytest.approx(1.5 - 0.5) and out[4]["has_left"] and not out[4]["is_success"]
    back = env.step(BACK)
    similarity = back[4]["similarity"]
    assert back[2] and back[4]["is_success"] and 0 < similarity < 1
    assert back[1] == pytest.approx(2.0 + similarity, abs=1e-5)


def test_a_detour_on_a_loop_earns_nothing(world, make):
    """Turning away before leaving, or overshooting, makes the way back longer; it must not be paid for that."""
    turn = STILL.copy()
    turn[:, 4] = 0.19
    earned = []
    for flight in ([FORWARD, BACK], [turn, FORWARD, BACK, -turn], [FORWARD, FORWARD, BACK, BACK]):
        env = make(world, "LoopClosure", similarity_weight=0.0)
        steps = [env.step(action) for action in flight]
        assert steps[-1][2]
        earned.append(sum(step[1] for step in steps))
    assert earned == pytest.approx([3.0] * 3, abs=1e-4)


def test_holding_still_is_best_and_every_move_costs(world, make):
    env = make(world, "HoldStill")
    turn = STILL.copy()
    turn[:, 4] = 0.1
    assert [env.step(action)[1] for action in (STILL, FORWARD, turn)] == [
        0,
        pytest.approx(-2.0),
        pytest.approx(-0.4, abs=1e-5),
    ]
