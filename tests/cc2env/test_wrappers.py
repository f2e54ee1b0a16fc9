"""Wrappers: observations lie in the spaces, actions mean what the tables say, all pickle and stand in the spec."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cc2env
from cc2env import wrappers
from cc2env.env import CameraCtrlWorldEnv
from model.geometry import se3

EVERY = {
    "DiscreteActions": {},
    "SingleTwist": {},
    "AbsolutePoses": {},
    "LastFrame": {},
    "FrameSkip": {"every": 8},
    "ResizeClip": {"height": 12, "width": 20},
    "ChannelFirst": {},
}


@pytest.fixture
def env(flat_world):
    env = CameraCtrlWorldEnv(flat_world)
    env.reset(seed=0)
    return env


def wrap(env, name, **arguments):
    return getattr(wrappers, name)(env, **{**EVERY[name], **arguments})


@pytest.mark.parametrize("name", [name for name in EVERY if name != "AbsolutePoses"])  # a sample is no pose
def test_gymnasiums_checker_is_content(name, env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(wrap(env, name), skip_render_check=True)


@pytest.mark.parametrize("name", EVERY)
def test_observations_are_in_their_space_and_the_wrapper_pickles(name, env):
    wrapped = wrap(env, name)
    actions = {
        "DiscreteActions": 1,
        "SingleTwist": np.full(6, 0.1, np.float32),
        "AbsolutePoses": np.tile(np.eye(4, dtype=np.float32), (4, 1, 1)),
    }
    action = actions.get(name, np.full((4, 6), 0.1, np.float32))
    first = wrapped.reset(seed=0)[0]
    twin = pickle.loads(pickle.dumps(wrapped))
    once, again = wrapped.step(action)[0], twin.step(action)[0]
    for observation in (first, once):
        assert observation in wrapped.observation_space and observation.dtype == np.uint8
    assert (once == again).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_wrapper_is_named_in_the_spec(name):
    wrapped = wrap(gym.make(cc2env.ENV_ID, world="synthetic"), name)
    twin = gym.make(wrapped.spec)
    assert type(twin) is type(wrapped)
    assert twin.observation_space == wrapped.observation_space and twin.action_space == wrapped.action_space


# actions


def test_every_key_moves_as_its_name_says(env):
    wrapped = wrappers.DiscreteActions(env)
    assert wrapped.action_space.n == 13 and wrapped.names == tuple(wrappers.KEY_MAPS["v1"])
    ends = {}
    for key, name in enumerate(wrapped.names):
        wrapped.reset(seed=0)
        c2w = wrapped.step(key)[4]["c2w"]
        ends[name] = (c2w[-1, :3, 3], c2w[-1, :3, 2])  # the centre, the optical axis
    centre = {name: end[0] for name, end in ends.items()}
    assert np.allclose(centre["forward"], [0, 0, 1.2]) and np.allclose(centre["back"], [0, 0, -1.2])
    assert np.allclose(centre["right"], [1.2, 0, 0]) and np.allclose(centre["left"], [-1.2, 0, 0])
    assert np.allclose(centre["down"], [0, 1.2, 0]) and np.allclose(centre["up"], [0, -1.2, 0])
    for name in ("stay", "pan_left", "pan_right", "tilt_up", "tilt_down"):
        assert np.allclose(centre[name], 0)
    axis = {name: end[1] for name, end in ends.items()}
    assert axis["pan_right"][0] == pytest.approx(np.sin(0.4), abs=1e-5) and axis["pan_left"][0] < 0
    assert axis["tilt_up"][1] == pytest.approx(-np.sin(0.4), abs=1e-5) and axis["tilt_down"][1] > 0
    assert centre["forward_right"][0] > 0.1 and axis["forward_right"][0] > 0.3 and centre["forward_left"][0] < -0.1


def test_the_first_key_map_never_changes():
    assert wrappers.KEY_MAPS["v1"]["forward_right"] == (0, 0, 0.5, 0, 0.5, 0)
    assert list(wrappers.KEY_MAPS["v1"])[:7] == ["stay", "forward", "back", "left", "right", "up", "down"]
    assert list(wrappers.KEY_MAPS["v1"])[7:10] == ["pan_left", "pan_right", "tilt_up"]
    for number, name in enumerate(wrappers.KEY_MAPS["v1"]):
        assert f"| {number:<3} | `{name}`" in wrappers.DiscreteActions.__doc__


def test_one_twist_is_flown_for_every_pose(env):
    wrapped = wrappers.SingleTwist(env)
    twist = np.array([0.1, 0, 0.3, 0, 0.1, 0], np.float32)
    wrapped.reset(seed=0)
    c2w = wrapped.step(twist)[4]["c2w"]
    expected = se3.exp(torch.arange(1, 5)[:, None] * torch.from_numpy(twist)).numpy()
    assert np.allclose(c2w, expected, atol=1e-6)


def test_absolute_poses_are_reached_clip_after_clip(env):
    wrapped = wrappers.AbsolutePoses(env)
    generator = np.random.default_rng(0)
    twists = torch.from_numpy(generator.uniform(-0.2, 0.2, (8, 6)))
    poses, pose = [], torch.eye(4, dtype=torch.float64)
    for motion in se3.exp(twists):
        pose = pose @ motion
        poses.append(pose.numpy())
    wrapped.reset(seed=0)
    for part in (poses[:4], poses[4:]):
        info = wrapped.step(np.stack(part).astype(np.float32))[4]
        assert np.allclose(info["c2w"], np.stack(part), atol=1e-5)


def test_a_pose_at_the_bound_is_flown(env):
    wrapped = wrappers.AbsolutePoses(env)
    wrapped.reset(seed=0)
    poses = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    for clip in range(3):  # sums of float32 are a little over 0.6 now and then
        poses[:, 2, 3] = 0.6 * np.arange(4 * clip + 1, 4 * clip + 5)
        assert np.allclose(wrapped.step(poses)[4]["c2w"], poses, atol=1e-5)


def test_poses_lead_on_from_where_a_snapshot_brought_the_camera(env):
    wrapped = wrappers.AbsolutePoses(env)
    wrapped.reset(seed=0)
    moment = env.snapshot()
    poses = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    poses[:, 2, 3] = 0.25 * np.arange(1, 5)
    wrapped.step(poses)
    env.restore(moment)
    assert np.allclose(wrapped.step(poses)[4]["c2w"], poses, atol=1e-6)


@pytest.mark.parametrize("twist", [(0, 0, 0.6, 0, 0, 0), (0.6, -0.3, 0.6, 0, 0.01, 0)])
def test_what_was_flown_at_full_speed_is_flown_again_however_far_away(env, twist):
    flown = [env.step(np.tile(np.float32(twist), (4, 1)))[4]["c2w"] for _ in range(64)]
    wrapped = wrappers.AbsolutePoses(env)
    wrapped.reset(seed=0)
    for poses in flown:
        assert np.allclose(wrapped.step(poses)[4]["c2w"], poses, atol=1e-4)  # float32 at 150 m counts in 1.5e-5
    too_far = np.tile(poses[-1:], (4, 1, 1))
    too_far[:, :3, 3] += 0.601 * too_far[:, :3, 0]
    with pytest.raises(ValueError, match=r"got 0\.60\d* before pose 0"):
        wrapped.step(too_far)


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        ("DiscreteActions", 13, r"action: expected a key in 0\.\.12, got 13"),
        ("SingleTwist", np.full(6, 0.7, np.float32), "action: expected x .* between -0.6 and 0.6 m"),
        ("AbsolutePoses", np.zeros((4, 6)), r"action: expected float poses of shape \(4, 4, 4\)"),
        ("AbsolutePoses", np.zeros((4, 4, 4)), "action: expected poses whose last row"),
        ("AbsolutePoses", np.stack([np.diag([1, 1, 1, 1.0])] * 3 + [se3.exp(torch.ones(6)).numpy()]), "before pose 3"),
    ],
)
def test_after_a_bad_action_one_flies_on(env, name, action, message):
    wrapped = wrap(env, name)
    wrapped.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        wrapped.step(action)
    assert wrapped.unwrapped.snapshot().session.clip_index[0] == 0


# observations


def test_frames_are_chosen_from_the_end(env):
    clip = env.step(np.zeros((4, 6), np.float32))[0]
    assert (wrappers.LastFrame(env).observation(clip) == clip[-1]).all()
    assert (wrappers.FrameSkip(env, every=4).observation(clip) == clip[[3, 7, 11, 15]]).all()
    assert (wrappers.FrameSkip(env, every=16).observation(clip) == clip[[15]]).all()


def test_resizing_averages_and_channels_move(env):
    clip = np.random.default_rng(0).integers(0, 255, (16, 6, 10, 3), dtype=np.uint8)
    half = wrappers.ResizeClip(env, 3, 5).observation(clip)
    # rounded twice: across, then down
    assert np.abs(half - clip.reshape(16, 3, 2, 5, 2, 3).mean((2, 4))).max() <= 1
    assert (wrappers.ChannelFirst(env).observation(clip) == clip.transpose(0, 3, 1, 2)).all()


def test_wrappers_stack_and_gymnasiums_own_go_on_top(env):
    stacked = wrappers.ChannelFirst(wrappers.LastFrame(wrappers.ResizeClip(wrappers.SingleTwist(env), 4, 6)))
    assert stacked.observation_space.shape == (3, 4, 6) and stacked.reset(seed=0)[0].shape == (3, 4, 6)
    few = wrappers.ChannelFirst(wrappers.FrameSkip(wrappers.DiscreteActions(env), every=4))
    assert few.observation_space.shape == (4, 3, 6, 10) and few.reset(seed=0)[0].shape == (4, 3, 6, 10)
    grey = gym.wrappers.FrameStackObservation(gym.wrappers.GrayscaleObservation(wrappers.LastFrame(env)), 2)
    assert grey.reset(seed=0)[0].shape == (2, 6, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda env: wrappers.LastFrame(wrappers.LastFrame(env)), r"env: expected observations uint8 \(frames"),
        (lambda env: wrappers.FrameSkip(env, every=5), "every: expected a positive divisor of the clip's 16 frames"),
        (lambda env: wrappers.ResizeClip(env, 0, 4), "height, width: expected at least 1 pixel each, got 0 and 4"),
        (lambda env: wrappers.ChannelFirst(wrappers.ChannelFirst(env)), r"env: expected observations \(\.\.\., height"),
        (lambda env: wrappers.SingleTwist(wrappers.DiscreteActions(env)), r"env: expected actions Box\(poses_per_clip"),
        (lambda env: wrappers.DiscreteActions(env, "v0"), r"key_map: expected one of \['v1'\], got 'v0'"),
    ],
)
def test_what_does_not_fit_is_an_error(env, wrong, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        wrong(env)
