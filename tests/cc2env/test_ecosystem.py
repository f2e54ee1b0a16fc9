"""Other libraries use the environment: TorchRL's GymEnv, worker processes, Gymnasium's types."""

import os
import subprocess
import sys
import textwrap
import warnings

import gymnasium as gym
import numpy as np
import pytest
from torchrl.envs.libs.gym import GymEnv

import cc2env
from cc2env import wrappers
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
        _, errors = process.communicate(timeout=300)
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


def fly_with_stable_baselines(start_method: str) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    envs = make_vec_env(
        cc2env.TASK_IDS["Explore"],
        n_envs=2,
        env_kwargs={"world": "synthetic"},
        wrapper_class=discrete_pictures,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": start_method},
    )
    PPO("CnnPolicy", envs, n_steps=2, batch_size=4, n_epochs=1).learn(4)
    envs.close()


def discrete_pictures(env: gym.Env) -> gym.Env:
    return wrappers.LastFrame(wrappers.DiscreteActions(env))


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_stable_baselines_learns_in_worker_processes(start_method):
    run_with_default_threads(
        f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_ecosystem, torch, gymnasium as gym
        if __name__ == "__main__":
            torch.set_num_threads(max(2, torch.get_num_threads()))
            gym.make("CameraCtrlWorld-v0", world="synthetic").reset(seed=0)  # forks come after the parent used torch
            test_ecosystem.fly_with_stable_baselines({start_method!r})
        """
    )


def test_the_checker_of_stable_baselines_accepts_it():
    from stable_baselines3.common.env_checker import check_env

    with warnings.catch_warnings():  # it recommends pictures of one frame and actions in -1..1
        warnings.simplefilter("ignore", UserWarning)
        check_env(gym.make(cc2env.ENV_ID, world="synthetic"))


def test_cleanrl_s_wrappers_and_loop_fly_it():
    def thunk():
        env = gym.make(cc2env.TASK_IDS["GoalView"], world="synthetic", max_episode_steps=3)
        env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.FlattenObservation(env))
        env = gym.wrappers.NormalizeObservation(gym.wrappers.ClipAction(env))
        env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
        return gym.wrappers.NormalizeReward(env, gamma=0.99)

    envs = gym.vector.SyncVectorEnv([thunk, thunk], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    obs, _ = envs.reset(seed=1)
    assert obs.shape == (2, 16 * 48 * 80 * 3)
    for _ in range(3):
        obs, reward, _, truncated, infos = envs.step(np.ones((2, 4, 6), np.float32))  # ClipAction brings it into bounds
    assert truncated.all() and np.isfinite(reward).all() and np.abs(obs).max() <= 10
    assert np.isfinite(infos["final_info"]["episode"]["r"]).all()


def test_play_maps_the_keyboard_and_the_window_opens(monkeypatch):
    """Gymnasium's `play`, its events fed by hand: w, then quit."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame
    from gymnasium.utils.play import play

    env = discrete_pictures(gym.make(cc2env.ENV_ID, render_mode="rgb_array", world="synthetic"))
    seen = []

    def callback(obs, next_obs, action, reward, terminated, truncated, info):
        seen.append(action)
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    pygame.init()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=ord("w"), mod=0))
    play(env, callback=callback, seed=0)
    assert env.get_wrapper_attr("names")[seen[0]] == "forward"
    human = gym.make(cc2env.ENV_ID, render_mode="human", world="synthetic")
    human.reset(seed=0)
    human.step(np.zeros((4, 6), np.float32))
    assert pygame.display.get_surface() is not None
    human.close()


def test_random_flights_warn_of_nothing():
    """One scene in three is glossy; each seed has another theme, sky and sun."""
    envs = gym.make_vec(cc2env.TASK_IDS["Explore"], num_envs=12, world="synthetic")
    envs.action_space.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.reset(seed=0)
        for _ in range(4):
            envs.step(envs.action_space.sample())
    envs.close()
