"""Recorders of other libraries keep one frame of a clip; the environment warns when one of them calls `render`."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo
from gymnasium.wrappers.vector import RecordVideo as VectorRecordVideo

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from cc2env.wrappers import DiscreteActions, RecordEpisode

STILL = np.zeros((4, 6), np.float32)
ADVICE = r"RecordVideo keeps 1 of the 16 frames .*cc2env\.wrappers\.RecordEpisode"


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list"])
def test_gymnasiums_recorder_gets_one_warning_of_what_it_misses(flat_world, tmp_path, mode):
    env = RecordVideo(DiscreteActions(CameraCtrlWorldEnv(flat_world, render_mode=mode)), str(tmp_path))
    with pytest.warns(UserWarning, match=ADVICE) as caught:
        env.reset(seed=0)
        env.step(0), env.step(1)
    assert sum("RecordEpisode" in str(each.message) for each in caught) == 1
    assert len(env.recorded_frames) == 3  # the reason for the warning
    env.recorded_frames.clear()
    env.recording = False  # no film has to be written here


def test_gymnasiums_recorder_of_vectors_too(flat_world, tmp_path):
    envs = VectorRecordVideo(CameraCtrlWorldVectorEnv(2, flat_world, render_mode="rgb_array"), str(tmp_path))
    with pytest.warns(UserWarning, match=ADVICE):
        envs.reset(seed=0)
    envs.recorded_frames.clear()
    envs.recording = False


def test_whoever_renders_knowingly_is_left_alone(flat_world, tmp_path):
    env = RecordEpisode(CameraCtrlWorldEnv(flat_world, render_mode="rgb_array"), tmp_path, formats=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=0)
        env.render()
        env.step(STILL)
        assert env.render().shape == (6, 10, 3)


def test_the_recorder_that_is_advised_keeps_every_frame(tmp_path):
    env = RecordEpisode(gym.make(cc2env.ENV_ID, world="synthetic", render_mode="rgb_array"), tmp_path, formats=[".gif"])
    env.reset(seed=0)
    env.step(STILL), env.step(STILL)
    assert len(env.frame_trajectory()) == 1 + 2 * 16
    env.close()
