"""Snapshots are files, tensors and rows: bit for bit the same, also in another process."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensordict import TensorDict

from cc2env import tasks
from cc2env.env import CameraCtrlWorldEnv
from cc2env.snapshot import EnvSnapshot
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.world.load import load_world
from model.world.protocol import WorldState
from model.world.state_io import save_state
from model.world.synthetic_world import SyntheticWorld

_GO_ON_ELSEWHERE = """
import hashlib, json, sys, numpy, torch
from cc2env.env import CameraCtrlWorldEnv
from cc2env.snapshot import EnvSnapshot
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
torch.set_num_threads(1)
world, path = sys.argv[1:]
snapshot, action = EnvSnapshot.load(path), numpy.full((2, 4, 6), 0.05, numpy.float32)
single, vector = CameraCtrlWorldEnv(world), CameraCtrlWorldVectorEnv(2, world)
native = CameraCtrlWorldTorchRLEnv(2, world)
single.restore(snapshot[1])
vector.restore(snapshot)
clips = [single.step(action[1])[0], vector.step(action)[0], vector.reset()[0]]
clips.append(native.step(native.restore(snapshot).set("action", torch.from_numpy(action)))["next", "pixels"].numpy())
print(json.dumps([hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips]))
"""


@pytest.fixture
def envs(flat_world):
    envs = CameraCtrlWorldVectorEnv(3, flat_world)
    envs.reset(seed=0, options={"prompt": ["dusk", "", "ein Hügel im 雪"]})
    envs.step(np.full((3, 4, 6), 0.05, np.float32))
    return envs


def assert_equal(a, b):
    assert a.random_states == b.random_states and a.session.prompts == b.session.prompts
    assert (a.session.state == b.session.state).all()
    assert (a.to_tensordict() == b.to_tensordict()).all()


def test_files_and_tensors_bring_back_the_same(envs, tmp_path):
    kept = envs.snapshot()
    kept.save(tmp_path / "moment.safetensors")
    assert_equal(EnvSnapshot.load(tmp_path / "moment.safetensors"), kept)
    assert_equal(EnvSnapshot.from_tensordict(kept.to_tensordict()), kept)
    longer = torch.cat([kept.to_tensordict(), kept[[2]].to_tensordict()])
    assert_equal(EnvSnapshot.from_tensordict(longer)[[0, 1, 3]], kept)
    assert_equal(EnvSnapshot.from_tensordict(longer[[1]].expand(2)), kept[[1, 1]])


def test_rows_are_copies(envs):
    kept = envs.snapshot()
    assert [len(kept[rows]) for rows in (0, [2, 0], slice(1, None), -1)] == [1, 2, 2, 1]
    assert kept[-1].session.prompts == ("ein Hügel im 雪",)
    row = kept[0]
    row.session.frames.zero_(), row.session.state.c2w.zero_()
    assert kept.session.state.c2w[0, 3, 3] == 1 and kept.session.frames[0].any()
    assert len(row.fork(5)) == 5
    with pytest.raises(ValueError, match=r"^snapshot: expected one row to fork, got 3; choose it with snapshot\[row\]"):
        kept.fork(2)
    with pytest.raises(ValueError, match=r"^num_futures: expected an integer of at least 1, got 0"):
        row.fork(0)


def test_a_snapshot_shares_no_memory_with_the_environment(envs):
    kept = envs.snapshot()
    before = kept.to_tensordict()
    envs.step(np.full((3, 4, 6), 0.05, np.float32))
    envs.restore(kept[[0]], rows=[1])
    envs.reset(seed=9, options={"reset_mask": np.array([True, False, False])})
    assert (kept.to_tensordict() == before).all()


def test_what_is_no_snapshot_names_itself(envs, tmp_path):
    bare, broken = tmp_path / "bare", tmp_path / "broken"
    save_state(bare, envs.snapshot().session.state)
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^path: expected a saved snapshot, got the bare world state"):
        EnvSnapshot.load(bare)
    with pytest.raises(ValueError, match=r"^path: expected a saved world state, .* is damaged"):
        EnvSnapshot.load(broken)
    with pytest.raises(FileNotFoundError, match=r"^path: "):
        EnvSnapshot.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^snapshot: expected entries 'world' and 'episode'"):
        EnvSnapshot.from_tensordict(envs.snapshot().to_tensordict().exclude("world"))


def _without(*names):
    return lambda moment: moment.exclude(*names)


def _with(name, value):
    return lambda moment: moment.set(name, value(moment[name]))


_ALTERED = {
    "no world": _without(("world", "memory")),
    "no notes": _without(("episode", "notes")),
    "no frames": _without(("episode", "frames")),
    "no episode_data": _without(("episode", "episode_data")),
    "no text": _with(("episode", "notes"), lambda notes: torch.full_like(notes, 255)),
    "other notes": _with(("episode", "notes"), lambda notes: notes * 0 + ord("5")),
    "no random state": _with(
        ("episode", "notes"), lambda notes: torch.tensor(list(b'{"prompt": "", "random_state": {}}'))[None].byte()
    ),
    "half a clip": _with(("episode", "clip_index"), lambda index: index + 0.5),
    "negative clips": _with(("episode", "clip_index"), lambda index: index - 9),
    "grey frames": _with(("episode", "frames"), lambda frames: frames[..., 0]),
    "no numbers": _with(("episode", "commanded"), lambda poses: poses * torch.nan),
    "no numbers reached": _with(("episode", "episode_data", "achieved"), lambda poses: poses * torch.nan),
    "flat pose": _with(("world", "c2w"), lambda pose: pose[:, :3, :3]),
    "a pose of doubles": _with(("world", "c2w"), lambda pose: pose.double()),
    "no focal length": _with(("world", "intrinsics"), lambda lens: lens * 0),
    "a negative seed": _with(("world", "seed"), lambda seed: -seed - 1),
}


@pytest.mark.parametrize("altered", _ALTERED)
def test_an_altered_snapshot_is_refused(small_world, altered, tmp_path):
    env, path = CameraCtrlWorldEnv(small_world), tmp_path / "moment"
    env.reset(seed=1)
    moment = _ALTERED[altered](env.snapshot().to_tensordict())
    with pytest.raises(ValueError, match=r"^snapshot: expected "):
        EnvSnapshot.from_tensordict(moment)
    world, episode = moment["world"], moment["episode"]
    nested = {"world": world["memory"], "episode": episode} if "memory" in world else {"episode": episode}
    memory = TensorDict(nested, batch_size=[1])
    save_state(path, WorldState(**{**world.exclude("memory").to_dict(), "memory": memory}, batch_size=[1]))
    with pytest.raises(ValueError, match=rf"^path: expected a saved .*{path}|^snapshot: expected one of this world"):
        env.restore(EnvSnapshot.load(path))


def test_a_bad_random_state_changes_nothing(small_world):
    action = np.full((4, 6), 0.1, np.float32)
    for env in (CameraCtrlWorldEnv(small_world), CameraCtrlWorldVectorEnv(1, small_world)):
        env.reset(seed=1)
        kept = env.snapshot()
        env.step(action if isinstance(env, CameraCtrlWorldEnv) else action[None])
        before = env.snapshot()
        for state in ({}, {"bit_generator": "Dice"}, {**kept.random_states[0], "state": None}):
            with pytest.raises(ValueError, match=r"^snapshot: expected the state of a random generator"):
                env.restore(dataclasses.replace(kept, random_states=(state,)))
        with pytest.raises(ValueError, match=r"^random_states: expected one for each of 1 row"):
            dataclasses.replace(kept, random_states=())
        assert_equal(env.snapshot(), before)


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM])
def test_generators_of_every_kind_are_kept(small_world, kind, tmp_path):
    env, other = CameraCtrlWorldEnv(small_world), CameraCtrlWorldEnv(small_world)
    env.reset(seed=1)
    usual = env.snapshot()
    env.np_random = np.random.Generator(kind(7))
    env.np_random.integers(9, dtype=np.int32)
    own = env.snapshot()
    own.save(tmp_path / "moment")
    loaded = EnvSnapshot.load(tmp_path / "moment")
    assert_equal(loaded, own)
    ahead = env.reset()[0]
    other.restore(loaded)
    assert (other.reset()[0] == ahead).all()
    env.restore(usual), other.reset(seed=1)
    assert (env.reset()[0] == other.reset()[0]).all()


def test_rows_are_chosen_by_numpys_numbers_and_masks(envs):
    kept = envs.snapshot()
    assert_equal(kept[np.argmax([0, 0, 1])], kept[2])
    assert_equal(kept[np.array([False, True, True])], kept[[1, 2]])
    assert len(kept[[]]) == 0 and len(kept[1].fork(np.int64(2))) == 2
    for wrong in (np.int64(0), True):
        with pytest.raises(ValueError, match=r"^num_futures: expected an integer of at least 1"):
            kept[1].fork(wrong)


def test_another_process_goes_on_bit_for_bit(learned_folder, tmp_path):
    vector = CameraCtrlWorldVectorEnv(2, learned_folder)
    single, native = CameraCtrlWorldEnv(learned_folder), CameraCtrlWorldTorchRLEnv(2, learned_folder)
    action = np.full((2, 4, 6), 0.05, np.float32)
    vector.reset(seed=0)
    vector.step(action)
    kept, path = vector.snapshot(), tmp_path / "moment.safetensors"
    kept.save(path)
    single.restore(kept[1])
    clips = [single.step(action[1])[0], vector.step(action)[0], vector.reset()[0]]
    clips.append(native.step(native.restore(kept).set("action", torch.from_numpy(action)))["next", "pixels"].numpy())
    command = [sys.executable, "-c", _GO_ON_ELSEWHERE, learned_folder, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips]


@pytest.mark.parametrize("started", [False, True])
def test_a_snapshot_of_another_world_is_refused_before_anything_changes(learned_folder, started):
    """Clips of both worlds have the same shape: only the memory of their states differs."""
    size = load_world(learned_folder).spec
    rendered = SyntheticWorld(height=size.height, width=size.width)
    kinds = (CameraCtrlWorldEnv, CameraCtrlWorldVectorEnv, CameraCtrlWorldTorchRLEnv)
    for home, abroad in ((rendered, learned_folder), (learned_folder, rendered)):
        stranger = CameraCtrlWorldEnv(abroad)
        stranger.reset(seed=0)
        for kind in kinds:
            env = kind(world=home)
            if started:
                env.reset()
                before = env.snapshot()
            with pytest.raises(ValueError, match=r"^snapshot: expected one of this world, got another world's"):
                env.restore(stranger.snapshot())
            assert env._session.is_started == started
            if started:
                assert_equal(env.snapshot(), before)


def test_a_snapshot_of_another_style_or_other_weights_is_refused(learned_folder, tmp_path):
    copy = shutil.copytree(learned_folder, tmp_path / "retrained")
    weights = copy / "dit" / "weights.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(weights).items()}, weights)
    styles = (SyntheticWorld(height=8, width=12, style=style) for style in ("soft", "textured"))
    for home, abroad in (styles, (learned_folder, copy)):
        env, stranger = CameraCtrlWorldEnv(home), CameraCtrlWorldEnv(abroad)
        env.reset(seed=0), stranger.reset(seed=0)
        with pytest.raises(ValueError, match=r"^snapshot: expected one of this world, got another world's"):
            env.restore(stranger.snapshot())
    other_sampler = CameraCtrlWorldEnv(learned_folder, sampler_steps=1)
    other_sampler.restore(CameraCtrlWorldEnv.snapshot(_started(learned_folder)))


def _started(world, **arguments):
    env = CameraCtrlWorldEnv(world, **arguments)
    env.reset(seed=0)
    return env


def test_a_snapshot_of_a_task_with_other_arguments_is_refused(small_world):
    class Nearer(tasks.GoalView):
        pass

    class Given(tasks.Task):
        def __init__(self, given):
            self.given = given

    arguments = {"task": "GoalView", "goal_clips": 1}
    moment = _started(small_world, **arguments).snapshot()
    CameraCtrlWorldEnv(small_world, success_reward=1, **arguments).restore(moment)  # the default, as an integer
    strangers = [
        (moment, {**arguments, "success_distance": 0.5}),
        (moment, {"task": Nearer(goal_clips=1)}),
        (_started(small_world, task=Given(np.zeros(3))).snapshot(), {"task": Given(np.ones(3))}),
        (_started(small_world, task=Given({"a": [1]})).snapshot(), {"task": Given({"a": [2]})}),
    ]
    for stranger, mine in strangers:
        with pytest.raises(ValueError, match=r"^snapshot: expected one of the same task, got another's"):
            CameraCtrlWorldEnv(small_world, **mine).restore(stranger)
    CameraCtrlWorldEnv(small_world, task=Given(object())).restore(
        _started(small_world, task=Given(object())).snapshot()
    )


def test_a_task_that_counts_in_itself_can_still_be_forked(small_world):
    class Counting(tasks.Task):
        calls = 0

        def judge(self, memory, transition):
            self.calls += 1
            return memory, 0.0, False

    env = _started(small_world, task=Counting())
    kept = env.snapshot()
    env.step(np.zeros((4, 6), np.float32))
    assert env.fork(2).num_envs == 2
    env.restore(kept)


def test_a_snapshot_of_another_task_is_refused_before_the_first_reset(small_world):
    explorer, free = (CameraCtrlWorldEnv(small_world, task=task) for task in ("Explore", None))
    explorer.reset(seed=0), free.reset(seed=0)
    refused = pytest.raises(ValueError, match=r"^snapshot: expected one of the same task, got another's")
    for task, arguments, moment in (
        ("HoldStill", {}, explorer.snapshot()),
        ("Explore", {"extent": 16.0}, explorer.snapshot()),  # a map of another size
        ("Explore", {}, free.snapshot()),
        (None, {}, explorer.snapshot()),
    ):
        with refused:
            CameraCtrlWorldEnv(small_world, task=task, **arguments).restore(moment)
    twin = CameraCtrlWorldEnv(small_world, task="Explore")
    twin.restore(explorer.snapshot())
    action = np.full((4, 6), 0.1, np.float32)
    assert twin.step(action)[1] == explorer.step(action)[1]


def test_files_of_another_kind_are_no_snapshots(small_world, tmp_path):
    env = CameraCtrlWorldEnv(small_world)
    env.reset(seed=1)
    deep = "[" * 100_000
    notes = torch.tensor(list(deep.encode()), dtype=torch.uint8)[None]
    moment = env.snapshot().to_tensordict().set(("episode", "notes"), notes)
    with pytest.raises(ValueError, match=r"^snapshot: expected "):
        EnvSnapshot.from_tensordict(moment)
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("weights", "folder", "pipe"):
        with pytest.raises((ValueError, FileNotFoundError), match=r"^path: expected a saved "):
            EnvSnapshot.load(tmp_path / name)
    for name in ("folder", "pipe"):
        with pytest.raises(ValueError, match=r"expected the name of a file to write"):
            env.snapshot().save(tmp_path / name)
