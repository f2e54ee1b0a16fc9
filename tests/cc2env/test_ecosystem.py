"""The ordinary roads of others into the environment: TorchRL's GymEnv, worker processes, Gymnasium's types."""

import os
import subprocess
import sys
import textwrap

import gymnasium as gym
import numpy as np
import pytest
from torchrl.envs.libs.gym import GymEnv

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from model.world.synthetic_world import SyntheticWorld


def test_gym_env_of_torchrl_flies_it_as_it_comes():
    assert GymEnv(cc2env.ENV_ID, world="synthetic").rollout(2).batch_size == (2,)
    assert GymEnv(cc2env.TASK_IDS["Explore"], world="synthetic").rollout(1).batch_size == (1,)


def test_metadata_has_the_types_of_gymnasium():
    env = CameraCtrlWorldEnv(SyntheticWorld(fps=11.7))
    assert env.metadata["render_fps"] == 12 and type(env.metadata["render_fps"]) is int
    assert env.fps == pytest.approx(11.7)


def test_the_old_angle_in_radians_is_heard_once_more():
    with pytest.warns(DeprecationWarning, match="horizontal_fov_deg"):
        env = CameraCtrlWorldEnv("synthetic", horizontal_fov=1.0)
    info = env.reset(seed=0)[1]
    assert info["intrinsics"][0] == pytest.approx(0.5 / np.tan(0.5))
    with pytest.raises(ValueError, match="got both"):
        gym.make(cc2env.ENV_ID, world="synthetic", horizontal_fov=1.0, horizontal_fov_deg=60)


def run_with_default_threads(code: str) -> None:
    """Runs code in a process of its own, whose torch chooses its threads; a hang is killed with its workers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_NUM", "MKL_NUM"))}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        _, errors = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        pytest.fail("the workers hang")
    assert process.returncode == 0, errors.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_fly_after_the_parent_has_used_its_threads():
    run_with_default_threads(
        """
        import multiprocessing, gymnasium as gym, numpy as np, torch, cc2env
        torch.set_num_threads(max(2, torch.get_num_threads()))
        a = torch.rand(600, 600); a @ a  # starts the threads that a forked child does not have
        envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, vectorization_mode="async", world="synthetic")
        envs.reset(seed=3); envs.step(np.zeros((2, 4, 6), np.float32)); envs.close()
        def fly():
            env = gym.make(cc2env.ENV_ID, world="synthetic"); env.reset(seed=0); env.step(np.zeros((4, 6), np.float32))
        child = multiprocessing.get_context("fork").Process(target=fly)
        child.start(); child.join(60); assert child.exitcode == 0
        """
    )
