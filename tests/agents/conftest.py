"""A world that shows nothing and moves nothing: for agents whose rewards come from poses, a step takes half a ms."""

import pytest
import torch
from tensordict import TensorDict

from model.world.protocol import WorldSpec, WorldState


class BlankWorld:
    """Black frames; poses are exact."""

    def __init__(self) -> None:
        self.spec = WorldSpec(height=6, width=10, intrinsics=(0.65, 1.09, 0.5, 0.5))

    def start(self, seeds, prompts=None, images=None, intrinsics=None):
        camera = torch.tensor(self.spec.intrinsics) if intrinsics is None else intrinsics
        batch = len(seeds)
        state = WorldState(
            c2w=torch.eye(4).repeat(batch, 1, 1),
            intrinsics=camera.expand(batch, 4).clone(),
            seed=torch.as_tensor(list(seeds)),
            step=torch.zeros(batch, dtype=torch.int64),
            memory=TensorDict({}, batch_size=[batch]),
            batch_size=[batch],
        )
        return state, torch.zeros(batch, 1, self.spec.height, self.spec.width, 3, dtype=torch.uint8)

    def extend(self, state, c2w):
        after = state.clone()
        after.c2w, after.step = c2w[:, -1].clone(), state.step + 1
        size = (len(c2w), self.spec.frames_per_clip, self.spec.height, self.spec.width, 3)
        return after, torch.zeros(size, dtype=torch.uint8)


@pytest.fixture(scope="session")
def blank_world() -> BlankWorld:
    return BlankWorld()
