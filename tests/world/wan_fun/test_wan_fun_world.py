"""A published folder, in small, flies end to end and keeps the protocol."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import cc2env
from cc2env.testing import check_world
from model.geometry import se3
from model.world.load import load_world
from model.world.open.wan_fun_world import WanFunWorld
from model.world.options import WorldOptions

PICTURE = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def world(published: Path) -> WanFunWorld:
    built = load_world(published)
    assert isinstance(built, WanFunWorld)
    return built


def path(world: WanFunWorld, forward: float = 0.1) -> Tensor:
    twist = torch.tensor([0.02, 0, forward, 0.01, 0.05, 0])
    return torch.stack([se3.exp(k * twist) for k in range(1, world.spec.poses_per_clip + 1)])[None]


def test_it_keeps_the_protocol(published: Path) -> None:
    check_world(published, other_process=False)


def test_an_environment_flies_it(published: Path) -> None:
    env = gym.make(cc2env.ENV_ID, world=str(published), metres_per_unit=2.0)
    picture = np.full((32, 48, 3), 90, np.uint8)
    clip, info = env.reset(seed=3, options={"prompt": "a red box", "image": picture})
    assert clip.shape == (8, 32, 48, 3) and (clip == picture).all() and info["function_evaluations"] == 0
    _, _, _, _, info = env.step(env.action_space.sample())
    assert (info["function_evaluations"], info["seconds"], info["prompt"]) == (4, 0.5, "a red box")
    env.unwrapped.set_prompt("a blue ball")  # type: ignore[attr-defined]
    assert env.step(env.action_space.sample())[-1]["prompt"] == "a blue ball"
    _, info = env.reset(seed=3)
    assert info["prompt"] in ("a red box", "a blue ball") and info["function_evaluations"] == 4


def flown(world: WanFunWorld, c2w: Tensor, **start: Any) -> Tensor:
    state, _ = world.start([7], **start)
    return world.extend(state, c2w)[1].float()


def test_picture_prompt_and_camera_all_matter(world: WanFunWorld) -> None:
    still = torch.eye(4).repeat(1, world.spec.poses_per_clip, 1, 1)
    base = flown(world, path(world), images=PICTURE, prompts=["a red box"])
    assert not torch.equal(base, flown(world, path(world), images=255 - PICTURE, prompts=["a red box"]))
    assert not torch.equal(base, flown(world, path(world), images=PICTURE, prompts=["a blue ball"]))
    assert not torch.equal(base, flown(world, still, images=PICTURE, prompts=["a red box"]))


def test_a_clip_depends_on_the_last_picture_and_the_way_from_it_alone(world: WanFunWorld) -> None:
    state, _ = world.start([7], ["a red box"], PICTURE)
    elsewhere = state.clone()
    elsewhere.c2w = se3.exp(torch.tensor([[1.0, -2.0, 0.5, 0.3, 1.0, -0.2]]))
    here, frames = world.extend(state, path(world))
    moved, same = world.extend(elsewhere, elsewhere.c2w[:, None] @ path(world))
    assert (frames.int() - same.int()).abs().max() <= 1  # float32 of the composed poses
    torch.testing.assert_close(moved.c2w, elsewhere.c2w @ here.c2w)
    assert torch.equal(here.memory["picture"], frames[:, -1])


def test_metres_are_divided_by_the_network_s_unit(published: Path, world: WanFunWorld) -> None:
    far = load_world(published, WorldOptions(metres_per_unit=4.0))
    c2w = path(world)
    scaled = c2w.clone()
    scaled[..., :3, 3] *= 4
    assert torch.equal(flown(far, scaled, images=PICTURE), flown(world, c2w, images=PICTURE))
    assert not torch.equal(flown(far, c2w, images=PICTURE), flown(world, c2w, images=PICTURE))


def test_worlds_of_other_options_share_their_networks(published: Path, world: WanFunWorld) -> None:
    other = load_world(published, WorldOptions(sampler_steps=1, guidance_text=1.0))
    assert other.spec.evaluations_per_clip == 1 and world.spec.evaluations_per_clip == 4
    assert other._transformers is world._transformers


def test_another_world_s_state_is_refused(world: WanFunWorld) -> None:
    state, _ = load_world("synthetic").start([1])
    with pytest.raises(ValueError, match="state: expected one of this world"):
        world.extend(state, path(world))
