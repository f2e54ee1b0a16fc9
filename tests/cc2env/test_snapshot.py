"""Snapshots are files, tensors and rows: bit for bit the same, also in another process."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from cc2env.env import CameraCtrlWorldEnv
from cc2env.snapshot import EnvSnapshot
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.world.load import load_world
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
    with pytest.raises(ValueError, match=r"^num_futures: expected at least 1, got 0"):
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
    """Clips of both worlds have the same shape: only the memory of their states tells them apart."""
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
