"""A built world as an argument that Gymnasium may copy: the weights are not copied."""

import copy
from collections.abc import Mapping
from typing import Any

from gymnasium.envs.registration import EnvSpec

from model.world.load import load_world
from model.world.options import WorldOptions
from model.world.protocol import WorldModel


class SharedWorld:
    """Holds a built world; its copies, even deep ones, are the same object. Its pickle includes the world."""

    def __init__(self, world: WorldModel) -> None:
        self.world = world

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "SharedWorld":
        return self


def shared(world: object) -> Any:
    """Wraps a built world in `SharedWorld`; returns names, folders and shared worlds as they are."""
    return SharedWorld(world) if isinstance(world, WorldModel) else world


def load(world: object, options: WorldOptions) -> WorldModel:
    """Returns the world of an environment's argument; see `load_world`."""
    return load_world(world.world if isinstance(world, SharedWorld) else world, options)  # type: ignore[arg-type]


def with_shared_world(spec: EnvSpec | None) -> EnvSpec | None:
    """Returns a spec that shares a built world, since every wrapper makes a deep copy of the spec."""
    if spec is None or not isinstance(spec.kwargs.get("world"), WorldModel):
        return spec
    spec = copy.copy(spec)
    spec.kwargs = {**spec.kwargs, "world": shared(spec.kwargs["world"])}
    return spec


class SharedWorldSpec:
    """The `spec` of Gymnasium's environments, which every wrapper copies."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """How `gymnasium.make` made this environment; copies share a world that was given as an object."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_shared_world(spec)
