"""A world that is already built, as an argument that Gymnasium may copy: its weights are not."""

import copy
from collections.abc import Mapping
from typing import Any

from gymnasium.envs.registration import EnvSpec

from model.world.load import load_world
from model.world.options import WorldOptions
from model.world.protocol import WorldModel


class SharedWorld:
    """Stands for a built world; copies of it, deep ones too, are itself. Pickled, it takes the world along."""

    def __init__(self, world: WorldModel) -> None:
        self.world = world

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "SharedWorld":
        return self


def shared(world: object) -> Any:
    """A built world as one that copies share; names, folders and worlds that are shared already as they are."""
    return SharedWorld(world) if isinstance(world, WorldModel) else world


def load(world: object, options: WorldOptions) -> WorldModel:
    """Returns the world of an environment's argument; see `load_world`."""
    return load_world(world.world if isinstance(world, SharedWorld) else world, options)  # type: ignore[arg-type]


def with_shared_world(spec: EnvSpec | None) -> EnvSpec | None:
    """Returns a spec in which a built world is shared: every wrapper makes a deep copy of it."""
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
        """How `gymnasium.make` made this; a world that was given as an object is not copied with it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_shared_world(spec)
