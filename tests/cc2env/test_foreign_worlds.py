"""A package that knows nothing of ours but the protocol brings a world; everything flies in it."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import cc2env
from cc2env.env import CameraCtrlWorldEnv
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from model.world import registry

ROOT = Path(__file__).resolve().parents[2]
ROOM = '''
"""A ray-cast room: a box with coloured walls, seen through a pinhole; two methods and no weights but one array."""

import torch
from tensordict import TensorDict

from model.geometry import se3
from model.world.protocol import WorldSpec, WorldState


class RoomWorld:
    start_arguments = frozenset({"intrinsics"})

    def __init__(self, half_width=2.0):
        self.spec = WorldSpec(height=12, width=20, intrinsics=(0.65, 1.09, 0.5, 0.5))
        self.half_width, self.weights = half_width, torch.zeros(1000)

    def __deepcopy__(self, memo):
        raise AssertionError("the weights were copied")

    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        batch = len(seeds)
        lens = torch.tensor(self.spec.intrinsics) if intrinsics is None else intrinsics
        state = WorldState(
            c2w=torch.eye(4).repeat(batch, 1, 1), intrinsics=lens.expand(batch, 4).clone(), seed=torch.tensor(seeds),
            step=torch.zeros(batch, dtype=torch.int64), memory=TensorDict({}, batch_size=[batch]), batch_size=[batch],
        )
        return state, self._look(state, state.c2w[:, None])

    def extend(self, state, c2w):
        se3.check_poses("c2w", c2w)
        after = state.clone()
        after.c2w, after.step = c2w[:, -1].clone(), state.step + 1
        return after, self._look(state, c2w.repeat_interleave(self.spec.frames_per_pose, dim=1))

    def _look(self, state, c2w):
        rows = (torch.arange(self.spec.height) + 0.5) / self.spec.height
        columns = (torch.arange(self.spec.width) + 0.5) / self.spec.width
        fx, fy, cx, cy = (state.intrinsics[:, k, None, None] for k in range(4))
        x, y = (columns - cx) / fx, (rows[:, None] - cy) / fy
        x, y = torch.broadcast_tensors(x, y)
        rays = torch.einsum("bfij,bhwj->bfhwi", c2w[..., :3, :3], torch.stack([x, y, torch.ones_like(x)], -1))
        origin = c2w[:, :, None, None, :3, 3]
        reach = ((self.half_width * rays.sign() - origin) / rays).nan_to_num(1e6).amin(-1, keepdim=True)
        shade = (origin + reach * rays) * 40 + 128 + (state.seed % 50)[:, None, None, None, None]
        return shade.clamp(0, 255).to(torch.uint8)


def make_room(device="cpu", folder=None):
    return RoomWorld(2.0 if folder is None else float((folder / "half_width.txt").read_text()))
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package, `room-worlds`, whose entry points name worlds."""
    (tmp_path / "room_worlds.py").write_text(ROOM)
    info = tmp_path / "room_worlds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: room-worlds\nVersion: 1.0\n")
    lines = ["room = room_worlds:make_room", "gone = room_worlds:no_such_thing", "needy = no_such_package:make"]
    (info / "entry_points.txt").write_text("\n".join(["[cc2env.worlds]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_registered", {})
    yield tmp_path
    sys.modules.pop("room_worlds", None)
    registry._load.cache_clear()
    registry._made.cache_clear()


@pytest.fixture
def room(package):
    import room_worlds

    return room_worlds.RoomWorld()


def fly(env, seed=3):
    env.action_space.seed(seed)
    return np.stack([env.reset(seed=seed)[0], env.step(env.action_space.sample() * 0.3)[0]])


def test_an_object_a_name_and_a_folder_are_the_same_world(package, room, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "world.yaml").write_text("kind: room\n")
    (folder / "half_width.txt").write_text("2.0")
    clips = [fly(gym.make(cc2env.ENV_ID, world=world)) for world in (room, "room", str(folder), folder)]
    assert all((clip == clips[0]).all() for clip in clips) and len(np.unique(clips[0])) > 20


def test_a_built_world_is_never_copied(room):
    env = gym.make(cc2env.ENV_ID, world=room)
    again = gym.make(cc2env.wrappers.LastFrame(env).spec)  # each wrapper's spec is a deep copy of the one below
    envs = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=room)
    rows = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=room, vectorization_mode="sync")
    worlds = [each.unwrapped._session.world for each in (env, again, envs, copy.deepcopy(env), *rows.envs)]
    worlds.append(CameraCtrlWorldTorchRLEnv(2, room)._session.world)
    copy.deepcopy(envs.spec)
    assert all(world is room for world in worlds)


def test_environments_of_one_process_share_the_world_of_a_name(package):
    env, other = (gym.make(cc2env.ENV_ID, world="room").unwrapped for _ in range(2))
    assert env._session.world is other._session.world


def test_environments_with_a_built_world_pickle(room):
    env = CameraCtrlWorldEnv(room)
    env.reset(seed=3)
    twin, action = pickle.loads(pickle.dumps(env)), np.full((4, 6), 0.05, np.float32)
    assert (twin.step(action)[0] == env.step(action)[0]).all()


@pytest.mark.parametrize("task", list(cc2env.TASK_IDS))
def test_tasks_snapshots_and_forks_work_in_it(room, task):
    env = gym.make(cc2env.TASK_IDS[task], world=room)
    fly(env)
    futures = env.unwrapped.fork(2)
    action = np.full((4, 6), 0.05, np.float32)
    clip, reward = env.step(action)[:2]
    clips, rewards = futures.step(np.stack([action, action]))[:2]
    assert (clips == clip).all() and (rewards == reward).all()


def test_torchrl_and_vector_rows_are_the_single_environment(room):
    envs, native = gym.make_vec(cc2env.ENV_ID, num_envs=2, world=room), CameraCtrlWorldTorchRLEnv(2, room)
    native.set_seed(3)
    single = gym.make(cc2env.ENV_ID, world=room)
    first = single.reset(seed=3)[0]
    assert (envs.reset(seed=3)[0][0] == first).all() and (native.reset()["pixels"][0].numpy() == first).all()


def test_what_it_cannot_do_is_refused_by_name(room):
    env = gym.make(cc2env.ENV_ID, world=room)
    part = "see cc2env.protocol."  # the error names the optional part that the world lacks
    for ability, (act, advice) in {
        "prompt": (lambda: env.reset(options={"prompt": "dusk"}), f"{part}LimitsItsStart"),
        "image": (
            lambda: env.reset(options={"image": np.zeros((12, 20, 3), np.uint8)}),
            f"{part}LimitsItsStart",
        ),
        "set_prompt": (lambda: (env.reset(), env.unwrapped.set_prompt("dusk")), f"{part}ChangesPrompts"),
        "collision": (lambda: gym.make(cc2env.ENV_ID, world=room, collision="stop"), f"{part}KnowsFreeSpace"),
        "depth": (lambda: (env.reset(), env.unwrapped.depth()), f"{part}SeesDepth"),
        "sampler": (lambda: gym.make(cc2env.ENV_ID, world=room, sampler="fast"), "build the world with it"),
    }.items():
        with pytest.raises(ValueError, match=f"^{ability}: expected.*{advice}") as caught:
            act()
        assert "[]" not in str(caught.value)
    assert env.unwrapped.abilities == {"horizontal_fov_deg"}


def test_a_registered_factory_gets_the_options_that_it_names(monkeypatch):
    built = []

    def factory(sampler="plain"):
        built.append(sampler)
        return cc2env_room()

    monkeypatch.setattr(registry, "_registered", {})
    cc2env.register_world("mine", factory)
    for sampler in (None, "fast", "fast"):
        gym.make(cc2env.ENV_ID, world="mine", sampler=sampler)
    assert built == ["plain", "fast"]  # one world for all environments with the same options
    with pytest.raises(ValueError, match=r"^memory_latents: expected the default, it has no effect on world='mine'"):
        gym.make(cc2env.ENV_ID, world="mine", memory_latents=2)


def cc2env_room():
    from model.world.synthetic_world import SyntheticWorld

    return SyntheticWorld(height=8, width=12)


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ("gone", "world: 'gone' cannot be imported from room_worlds:no_such_thing"),
        ("needy", "world: 'needy' cannot be imported from no_such_package:make: No module named"),
        ("rom", "world: expected 'tiny', 'small', 'synthetic', .*'needy', 'room' or a folder, got 'rom'"),
    ],
)
def test_what_is_no_world_is_one_line(package, world, message):
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{message}"):
        gym.make(cc2env.ENV_ID, world=world)


def test_a_folder_of_an_unknown_kind_is_one_line(tmp_path):
    (tmp_path / "world.yaml").write_text("kind: castle\n")
    with pytest.raises(ValueError, match=r"^world: expected a kind that is registered, of .*, got 'castle'"):
        gym.make(cc2env.ENV_ID, world=str(tmp_path))


@pytest.mark.parametrize("name", ["tiny", "synthetic", "a/b", "..", ""])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(ValueError, match=r"^name: expected letters"):
        cc2env.register_world(name, cc2env_room)


_COMMANDS = {
    "explore": ["-m", "agents.explore", "num_clips=1"],
    "agents": ["-m", "agents.evaluate", "tasks=[Explore]", "agents=[random,frontier]", "num_seeds=1"],
}


@pytest.mark.slow
def test_the_commands_take_its_name(package, tmp_path):
    path = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for name, command in _COMMANDS.items():
        world = "worlds=[room]" if name == "agents" else "world=room"
        command = [sys.executable, *command, world, f"out={tmp_path / name}"]
        done = subprocess.run(command, capture_output=True, text=True, env=path)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "explore" / "episode.json").read_text())["world"] == "room"
    oracle = [sys.executable, "-m", "model.cli.evaluate", "oracle", "world=room", "num_scenes=1", "num_clips=1"]
    done = subprocess.run(oracle, capture_output=True, text=True, env=path, cwd=tmp_path)
    assert done.returncode == 1 and "error: world: expected one that is shown a scene by its image" in done.stderr
