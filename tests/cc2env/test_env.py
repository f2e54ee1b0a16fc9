"""The environment as Gymnasium sees it: its checker, determinism, snapshots, errors that leave the episode usable."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from PIL import Image

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.options import EnvOptions
from cc2env.vector_env import CameraCtrlWorldVectorEnv

INFO_KEYS = {
    "c2w",
    "achieved_c2w",
    "blocked",
    "intrinsics",
    "clip_index",
    "seconds",
    "function_evaluations",
    "prompt",
}


@pytest.fixture
def env(flat_world):
    return CameraCtrlWorldEnv(flat_world)


def actions_of(env, count=3, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


def fly(env, actions):
    return np.stack([env.step(action)[0] for action in actions])


def test_a_step_returns_what_the_spaces_say(env):
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space and observation.shape == (16, 6, 10, 3)
    assert (observation == observation[0]).all()
    assert info.keys() == INFO_KEYS and (info["c2w"] == np.eye(4)).all() and info["c2w"].dtype == np.float32
    assert (info["clip_index"], info["seconds"], info["function_evaluations"]) == (0, 0.0, 0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert observation in env.observation_space and (reward, terminated, truncated) == (0.0, False, False)
    assert info.keys() == INFO_KEYS and info["c2w"].shape == (4, 4, 4) and info["intrinsics"].dtype == np.float32
    assert (info["clip_index"], info["function_evaluations"]) == (1, 8)
    assert info["seconds"] == pytest.approx(16 / 12)


def test_the_commanded_poses_are_those_of_the_action(env):
    env.reset(seed=0)
    action = np.zeros((4, 6), np.float32)
    action[:, 2] = 0.5
    env.step(action)
    info = env.step(action)[-1]
    assert np.allclose(info["c2w"][:, 2, 3], [2.5, 3.0, 3.5, 4.0])


def test_same_seed_and_actions_give_the_same_bytes(env):
    actions = actions_of(env)
    first, again = (env.reset(seed=5)[0], fly(env, actions)), (env.reset(seed=5)[0], fly(env, actions))
    other = env.reset(seed=6)[0]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other).any()


def test_a_restored_snapshot_continues_bit_for_bit(flat_world):
    env = CameraCtrlWorldEnv(flat_world, render_mode="rgb_array")
    actions = actions_of(env)
    env.reset(seed=5)
    env.step(actions[0])
    kept, picture = env.snapshot(), env.render()
    ahead, after = fly(env, actions[1:]), env.reset()[0]
    for _ in range(2):
        env.restore(kept)
        assert (env.render() == picture).all()
        assert (fly(env, actions[1:]) == ahead).all()
        assert (env.reset()[0] == after).all()  # the random generator went back, too


def test_a_snapshot_goes_over_to_another_environment(flat_world):
    env, other = CameraCtrlWorldEnv(flat_world), CameraCtrlWorldEnv(flat_world)
    actions = actions_of(env)
    env.reset(seed=5)
    env.step(actions[0])
    other.restore(env.snapshot())
    assert (fly(env, actions[1:]) == fly(other, actions[1:])).all()


def test_returned_data_is_the_callers(env):
    env.reset(seed=0)
    kept = env.snapshot()
    observation, *_, info = env.step(env.action_space.sample())
    observation[:], info["c2w"][:], info["intrinsics"][:] = 0, 0, 0
    _, *_, again = env.step(np.zeros((4, 6), np.float32))
    assert again["intrinsics"][0] > 0 and (again["c2w"][:, 3, 3] == 1).all()
    env.restore(kept)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 6), np.float32),
        np.full((4, 6), np.nan, np.float32),
        np.full((4, 6), np.inf, np.float32),
        np.full((4, 6), 5.0, np.float32),
        np.zeros((4, 6), np.int32),
        None,
    ],
    ids=["shape", "nan", "infinity", "bounds", "dtype", "none"],
)
def test_after_a_bad_action_one_flies_on(flat_world, bad):
    env, untroubled = CameraCtrlWorldEnv(flat_world), CameraCtrlWorldEnv(flat_world)
    actions = actions_of(env)
    for each in (env, untroubled):
        each.reset(seed=0)
        each.step(actions[0])
    with pytest.raises(ValueError, match=r"^action: expected"):
        env.step(bad)
    assert (fly(env, actions[1:]) == fly(untroubled, actions[1:])).all()


def test_errors_reach_the_user_of_make():
    env = gym.make(cc2env.ENV_ID, world="synthetic")
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: expected finite"):
        env.step(np.full((4, 6), np.nan, np.float32))
    env.step(env.action_space.sample())


@pytest.mark.parametrize("call", ["step", "render", "snapshot"])
def test_nothing_works_before_reset(flat_world, call):
    env = CameraCtrlWorldEnv(flat_world, render_mode="rgb_array")
    arguments = [env.action_space.sample()] if call == "step" else []
    with pytest.raises(ResetNeeded, match=f"^{call}: expected running episodes"):
        getattr(env, call)(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"promt": "dusk"}, r"options: expected keys among \['prompt', 'image'\], got \['promt'\]"),
        ({"prompt": 3}, "prompt: expected a string, got int"),
        ({"image": "nowhere.png"}, "image: expected a picture file, got nowhere.png, which does not exist"),
        ({"image": np.zeros((6, 10, 3))}, "image: expected a uint8 array .* got float64"),
        ({"image": np.zeros((6, 10), np.uint8)}, r"image: expected a uint8 array .* got uint8 \(6, 10\)"),
        ({"image": 3}, "image: expected a path, a uint8 array .* got int"),
    ],
)
def test_bad_options_name_themselves_and_leave_the_episode(env, options, message):
    actions = actions_of(env, 1)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"^{message}"):
        env.reset(options=options)
    env.step(actions[0])
    assert env.reset(seed=0, options={})[1]["clip_index"] == 0


def test_refused_options_do_not_seed(env):
    env.reset(seed=1)
    following = env.reset()[0]
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"^image: "):
        env.reset(seed=77, options={"image": "nowhere.png"})
    assert (env.reset()[0] == following).all()


def test_an_action_may_be_a_tensor_that_learns(flat_world):
    env, envs = CameraCtrlWorldEnv(flat_world), CameraCtrlWorldVectorEnv(1, flat_world)
    env.reset(seed=0), envs.reset(seed=[0])
    action = torch.full((4, 6), 0.1, requires_grad=True)
    assert (env.step(action)[0] == envs.step(action[None])[0][0]).all()


def test_what_is_no_world_names_itself():
    """In a process without the tests' own checks of types."""
    code = "from cc2env.env import CameraCtrlWorldEnv; CameraCtrlWorldEnv(None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "ValueError: world: expected a name, a folder or a WorldModel, got NoneType without spec, start, extend; choose"
        in done.stderr
    )


def test_a_file_that_is_no_picture_is_an_error(env, tmp_path):
    broken = tmp_path / "broken.png"
    picture = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(picture)
    for content in (b"hello", picture.read_bytes()[:200], b""):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"^image: expected a readable picture file, got "):
            env.reset(options={"image": str(broken)})


def test_options_reach_the_world(env, flat_world, tmp_path):
    path = tmp_path / "wide.png"
    wide = np.zeros((60, 200, 3), np.uint8)
    wide[:, 50:150] = (10, 200, 30)  # what a frame of 6 x 10 shows of the middle
    Image.fromarray(wide).convert("RGBA").save(path)
    _, info = env.reset(options={"prompt": "a dusk", "image": path})
    image = flat_world.started_with["images"]
    assert image.shape == (1, 6, 10, 3) and (image == image.new_tensor([10, 200, 30])).all()
    assert flat_world.started_with["prompts"] == ["a dusk"] and info["prompt"] == "a dusk"
    exact = np.random.default_rng(0).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    env.reset(options={"image": exact})
    assert (flat_world.started_with["images"][0].numpy() == exact).all()


def test_render_shows_every_frame_or_the_last(flat_world):
    env = CameraCtrlWorldEnv(flat_world, render_mode="rgb_array_list")
    observation, _ = env.reset(seed=0)
    assert len(env.render()) == 1 and (env.render()[0] == observation[0]).all()
    observation = env.step(env.action_space.sample())[0]
    assert (np.stack(env.render()) == observation).all()
    env = CameraCtrlWorldEnv(flat_world, render_mode="rgb_array")
    env.reset(seed=0)
    observation = env.step(env.action_space.sample())[0]
    assert (env.render() == observation[-1]).all() and (observation[-1] != observation[0]).any()


def test_arguments_of_make_change_the_spaces_and_the_camera():
    env = gym.make(
        cc2env.ENV_ID, world="synthetic", poses_per_clip=8, horizontal_fov_deg=np.degrees(1.0), max_episode_steps=2
    )
    assert env.action_space.shape == (8, 6) and env.observation_space.shape[0] == 32
    _, info = env.reset(seed=0)
    assert info["intrinsics"][0] == pytest.approx(0.5 / np.tan(0.5))
    assert not env.step(env.action_space.sample())[3] and env.step(env.action_space.sample())[3]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"world": "nowhere"}, FileNotFoundError, "^world: .*nowhere"),
        ({"world": "synthetic", "sampler_steps": 4}, ValueError, "^sampler_steps: "),
        ({"world": "synthetic", "horizontal_fov_deg": 180.0}, ValueError, "^horizontal_fov_deg: "),
        ({"world": "synthetic", "poses_per_clip": 5}, ValueError, "^poses_per_clip: "),
        ({"wrld": "synthetic"}, TypeError, "unexpected keyword argument 'wrld': did you mean world[?] known: world, "),
        ({"world": "synthetic", "frameskip": 1}, TypeError, "unexpected keyword argument 'frameskip'"),
        ({"world": Path("nowhere")}, FileNotFoundError, "^world: .*nowhere"),
        ({"world": "synthetic", "device": "abacus"}, ValueError, "^device: expected .*abacus"),
    ],
)
def test_bad_arguments_of_make_name_themselves(arguments, error, message):
    with pytest.raises(error, match=message):
        gym.make(cc2env.ENV_ID, **arguments)


def test_the_table_of_arguments_names_them_all():
    table = CameraCtrlWorldEnv.__doc__.split("## Arguments")[1].split("The class itself")[0]
    options = {field.name for field in dataclasses.fields(EnvOptions)}
    assert set(re.findall(r"^ *\| `(\w+)`", table, re.MULTILINE)) == options | {
        "world",
        "collision",
        "task",
        "reward",
        "render_mode",
    }


def test_options_of_the_world_reach_it(learned_folder):
    for num_latents, capacity in ((0, 5), (2, 64)):
        env = gym.make(cc2env.ENV_ID, world=learned_folder, memory_latents=num_latents)
        env.reset(seed=0)
        assert env.unwrapped.snapshot().session.state.memory["window", "c2w"].shape[1] == capacity


def test_an_unknown_render_mode_is_an_error(flat_world):
    with pytest.raises(ValueError, match=r"^render_mode: .*play"):
        CameraCtrlWorldEnv(flat_world, render_mode="human")


def test_a_vector_of_environments_works():
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, vectorization_mode="sync", world="synthetic")
    _, infos = envs.reset(seed=[1, 2])
    assert infos["c2w"].shape == (2, 4, 4, 4)
    observations = envs.step(envs.action_space.sample())[0]
    assert observations.shape == (2, 16, 48, 80, 3)
    envs.close()
