"""A world with known mathematics, so that sessions and environments are tested without a renderer."""

import dataclasses

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from cc2env.env import CameraCtrlWorldEnv
from model.world.protocol import WorldSpec, WorldState
from model.world.synthetic_world import SyntheticWorld


class FlatWorld:
    """Frames of one colour: red is the seed, green the frame's number, blue 100 + 50 z of its latent pose."""

    def __init__(self) -> None:
        self.spec = WorldSpec(height=6, width=10, intrinsics=(0.65, 1.09, 0.5, 0.5), evaluations_per_clip=8)
        self.fails = False
        self.started_with: dict[str, object] = {}

    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        self.started_with = {"prompts": prompts, "images": images}
        camera = torch.tensor(self.spec.intrinsics) if intrinsics is None else intrinsics
        batch = len(seeds)
        state = WorldState(
            c2w=torch.eye(4).repeat(batch, 1, 1),
            intrinsics=camera.expand(batch, 4).clone(),
            seed=torch.tensor(seeds),
            step=torch.zeros(batch, dtype=torch.int64),
            memory=TensorDict({"frames": torch.zeros(batch, dtype=torch.int64)}, batch_size=[batch]),
            batch_size=[batch],
        )
        return state, self._paint(state, state.c2w[:, None], torch.zeros(batch, 1, dtype=torch.int64))

    def extend(self, state, c2w):
        if self.fails:
            raise RuntimeError("the network broke")
        per_pose, count = self.spec.frames_per_pose, self.spec.frames_per_clip
        number = state.memory["frames"][:, None] + torch.arange(1, count + 1)
        frames = self._paint(state, c2w.repeat_interleave(per_pose, dim=1), number)
        memory = TensorDict({"frames": number[:, -1].clone()}, batch_size=state.batch_size)
        return dataclasses.replace(
            state.clone(), c2w=c2w[:, -1].clone(), step=state.step + 1, memory=memory, batch_size=state.batch_size
        ), frames

    def _paint(self, state, c2w, number):
        red = (state.seed % 251)[:, None].expand_as(number)
        colour = torch.stack([red, number % 256, (100 + 50 * c2w[..., 2, 3]).round().long()], dim=-1).to(torch.uint8)
        return colour[:, :, None, None].expand(-1, -1, self.spec.height, self.spec.width, 3).clone()


@pytest.fixture
def flat_world() -> FlatWorld:
    return FlatWorld()


@pytest.fixture(scope="session")
def small_world():
    """The renderer's world, so small that a clip takes milliseconds."""
    return SyntheticWorld(height=8, width=12)


@pytest.fixture(scope="session")
def learned_folder(tmp_path_factory, random_world):
    """The folder of a learned world of random weights."""
    return str(random_world.save(tmp_path_factory.mktemp("learned")))


def assert_same(a, b, where=""):
    """Asserts that two nests of dicts, sequences and arrays are equal to the bit, types and all."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (tuple, list)) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{index}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape, (where, a.dtype, b.dtype, a.shape, b.shape)
        assert (a == b).all(), where
    else:
        assert a == b, where


@pytest.fixture(scope="session", name="assert_same")
def assert_same_fixture():
    return assert_same


@pytest.fixture(scope="session")
def world():
    """The renderer's world, for tasks."""
    return SyntheticWorld(height=16, width=24)


@pytest.fixture(scope="session")
def make():
    """Returns a function that makes an environment with a task, already reset."""

    def made(world, task=None, seed=0, **arguments):
        env = CameraCtrlWorldEnv(world, task=task, **arguments)
        env.reset(seed=seed)
        return env

    return made
