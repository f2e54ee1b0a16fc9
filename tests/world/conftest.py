"""The random world's parts, and worlds made of them."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.dit.video_dit import VideoDiT
from model.vae.video_vae import VideoVAE
from model.world.camera_world import CameraWorld
from model.world.config import WorldConfig
from model.world.load import build_text_encoder


@pytest.fixture(scope="session")
def dit(random_world: Any) -> VideoDiT:
    return random_world.dit


@pytest.fixture(scope="session")
def vae(random_world: Any) -> VideoVAE:
    return random_world.vae


@pytest.fixture(scope="session")
def config(random_world: Any) -> WorldConfig:
    return random_world.config


@pytest.fixture(scope="session")
def make_world(dit: VideoDiT, vae: VideoVAE, config: WorldConfig) -> Callable[..., CameraWorld]:
    def make(network: VideoDiT = dit, **settings: object) -> CameraWorld:
        encoder = build_text_encoder(config.text_encoder, Path("."))
        arguments = {"sampler": config.sampler, "default_prompts": config.default_prompts, **settings}
        return CameraWorld(network, vae, encoder, config.spec(), **arguments)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., CameraWorld]) -> CameraWorld:
    return make_world()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, random_world: Any) -> Path:
    return random_world.save(tmp_path_factory.mktemp("world"))


class Peak(TorchDispatchMode):
    """The most bytes that lived at once of what the calls made; weights are not counted."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.sizes = {weights.untyped_storage()._cdata: 0 for weights in network.parameters()}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return out

    def _gone(self, number: int) -> None:
        self.now -= self.sizes.pop(number)


@pytest.fixture(scope="session")
def peak() -> type[Peak]:
    """Counts the memory of what a network does within `with peak(network) as counted:`, as `counted.peak`."""
    return Peak
