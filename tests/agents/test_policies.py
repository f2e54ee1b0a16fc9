"""Policies stay within the bounds, depend on the clip's index alone, and end at the right pose."""

import numpy as np
import pytest
import torch

from agents.follow import FollowPolicy
from agents.random import RandomPolicy
from agents.scripted import MOVES, TOURS, ScriptedPolicy, resolve_script
from cc2env.env import CameraCtrlWorldEnv
from cc2env.geometry import CameraTrajectory, se3
from cc2env.spaces import action_space

SPACE = action_space(4)
NOTHING = np.zeros((16, 6, 10, 3), np.uint8)


def act(policy, clip_index):
    return policy.act(NOTHING, {"clip_index": clip_index})


def flown(policy, num_clips):
    twists = torch.from_numpy(np.concatenate([act(policy, index) for index in range(num_clips)]))
    return CameraTrajectory.from_twists(torch.eye(4), twists, torch.ones(4)).c2w


@pytest.mark.parametrize("script", [*MOVES, *TOURS])
@pytest.mark.parametrize("smooth", [True, False])
def test_every_move_and_tour_stays_inside_the_action_space(script, smooth):
    policy = ScriptedPolicy(SPACE, script, smooth)
    for index in range(len(policy) + 1):
        assert SPACE.contains(act(policy, index))


def test_moves_go_where_their_names_say():
    def end(move):
        return flown(ScriptedPolicy(SPACE, move, smooth=False), 1)[-1]

    eye = torch.eye(4)
    assert torch.equal(end("still"), eye)
    for move, axis, sign in [("forward", 2, 1), ("back", 2, -1), ("left", 0, -1), ("right", 0, 1), ("up", 1, -1)]:
        step = end(move)[:3, 3]
        assert step[axis] * sign > 0.3 and step.abs().sum() == step[axis].abs()
    assert end("pan_right")[0, 2] > 0.2 and end("pan_left")[0, 2] < -0.2  # the axis of view turns to +x, -x
    assert end("tilt_up")[1, 2] < -0.1 and end("tilt_down")[1, 2] > 0.1
    assert end("roll_right")[1, 0] > 0.1 and end("roll_left")[1, 0] < -0.1  # the camera's right side sinks, rises
    assert torch.allclose(end("pan_left") @ end("pan_right"), eye, atol=1e-6)


@pytest.mark.parametrize("move", ["orbit_left", "orbit_right"])
def test_an_orbit_keeps_its_centre_in_the_middle_of_the_view(move):
    poses = flown(ScriptedPolicy(SPACE, move, smooth=False), 3)
    centre = torch.tensor([0, 0, abs(MOVES[move][0] / MOVES[move][4]), 1.0])
    seen = se3.inverse(poses) @ centre
    assert torch.allclose(seen, centre.expand_as(seen), atol=1e-4)


def test_smoothing_takes_the_jerk_out_and_leaves_the_even_parts():
    hard, soft = (ScriptedPolicy(SPACE, "forward back", smooth) for smooth in (False, True))
    jerk = [np.abs(np.diff(np.concatenate([act(p, 0), act(p, 1)])[:, 2])).max() for p in (hard, soft)]
    assert jerk[1] <= jerk[0] / 2 + 1e-6
    assert act(soft, 0)[1, 2] == act(hard, 0)[1, 2] and act(soft, 0)[0, 2] < act(hard, 0)[0, 2]


def test_scripts_are_tours_and_moves_in_any_mixture():
    assert resolve_script("forward, there_and_back back") == ("forward", *TOURS["there_and_back"], "back")
    assert resolve_script(["still", "up"]) == ("still", "up")
    for bad in ("sideways", "", []):
        with pytest.raises(ValueError, match=r"^script: expected a tour"):
            resolve_script(bad)


def test_a_script_begins_again_at_its_end():
    policy = ScriptedPolicy(SPACE, "forward back")
    assert (act(policy, 3) == act(policy, 1)).all() and policy.move_of(2) == "forward"


def test_a_random_walk_is_bounded_smooth_and_a_function_of_seed_and_clip():
    policy, twin, other = RandomPolicy(SPACE, 1), RandomPolicy(SPACE, 1), RandomPolicy(SPACE, 2)
    clips = [act(policy, index) for index in range(5)]
    assert all(SPACE.contains(clip) for clip in clips)
    assert (act(twin, 3) == clips[3]).all() and (act(other, 3) != clips[3]).any()
    walk = np.concatenate(clips)
    assert np.corrcoef(walk[:-1].ravel(), walk[1:].ravel())[0, 1] > 0.3


def path(num_poses, twist):
    start = se3.exp(torch.tensor([1.0, 2.0, 3.0, 0.3, -0.2, 0.1]))
    return CameraTrajectory.from_twists(start, torch.tensor(twist).expand(num_poses - 1, 6), torch.ones(4))


def test_following_passes_through_every_pose_and_then_stands_still():
    given = path(7, [0.1, -0.05, 0.3, 0.05, 0.1, -0.02])
    policy = FollowPolicy(SPACE, given)
    assert policy.pieces == 1 and policy.num_clips == 2
    poses = flown(policy, 2)
    assert torch.allclose(poses[:7], given.rebase().c2w, atol=1e-5)
    assert torch.allclose(poses[7:], poses[6], atol=1e-6)
    assert (act(policy, 5) == 0).all()


def test_a_path_too_fast_is_divided_evenly_and_still_met_exactly():
    given = path(3, [1.5, 0.0, 0.0, 0.0, 0.5, 0.0])
    policy = FollowPolicy(SPACE, given)
    assert policy.pieces == 3
    assert all(SPACE.contains(act(policy, index)) for index in range(policy.num_clips))
    assert torch.allclose(flown(policy, policy.num_clips)[[0, 3, 6]], given.rebase().c2w, atol=1e-5)


def test_a_path_at_the_bound_is_not_resampled():
    policy = FollowPolicy(SPACE, path(4, [0.6, 0.0, 0.0, 0.0, 0.2, 0.0]))
    assert policy.pieces == 1 and SPACE.contains(act(policy, 0))


def test_what_an_environment_flew_at_full_speed_is_not_resampled(blank_world):
    env = CameraCtrlWorldEnv(blank_world)
    _, info = env.reset(seed=0)
    action = np.tile(np.float32([0, 0, 0.6, 0, 0, 0]), (4, 1))
    c2w = torch.from_numpy(np.concatenate([info["c2w"][:1]] + [env.step(action)[4]["c2w"] for _ in range(64)]))
    for given in (c2w, c2w.flip(0)):  # a file may begin far from its origin
        policy = FollowPolicy(SPACE, CameraTrajectory(given, torch.ones(len(c2w), 4)))
        assert policy.pieces == 1 and policy.num_clips == 64
        # float32 at 150 m counts in 1.5e-5, and what is clamped adds up over 256 poses
        assert torch.allclose(flown(policy, 64), policy.trajectory.c2w.float(), atol=1e-3)
    c2w[-1, 2, 3] += 1e-3
    assert FollowPolicy(SPACE, CameraTrajectory(c2w, torch.ones(len(c2w), 4))).pieces == 2


def test_a_scale_turns_the_files_unit_into_metres():
    given = path(4, [0.0, 0.0, 30.0, 0.0, 0.0, 0.0])
    policy = FollowPolicy(SPACE, given, scale=0.01)
    assert policy.pieces == 1 and policy.trajectory.path_length() == pytest.approx(0.9)
    with pytest.raises(ValueError, match=r"^scale: expected a positive number"):
        FollowPolicy(SPACE, given, scale=-1)


def test_a_stride_takes_every_nth_pose():
    given = path(9, [0.0, 0.0, 0.1, 0.0, 0.0, 0.0])
    policy = FollowPolicy(SPACE, given, stride=4)
    assert torch.allclose(flown(policy, 1)[:3], given.rebase().c2w[::4], atol=1e-5)
    for stride, length in ((0, 9), (4, 3)):
        with pytest.raises(ValueError, match=r"^(stride|trajectory): expected"):
            FollowPolicy(SPACE, given[:length], stride=stride)
