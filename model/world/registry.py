"""Named worlds besides our own: those that a program registers, and the entry points of installed packages."""

import inspect
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from model.pretrained import shipped_worlds
from model.world.protocol import WorldModel

WorldFactory = Callable[..., WorldModel]

ENTRY_POINTS = "cc2env.worlds"  # the group in which a package names its factories
OUR_WORLDS = (*shipped_worlds(), "synthetic")
_registered: dict[str, WorldFactory] = {}


def register_world(name: str, factory: WorldFactory) -> None:
    """Makes `world=name` mean what the factory builds; a name that is registered again is replaced.

    A new process (by spawn, or on another machine) knows only what its own imports register; an entry point of the
    group `cc2env.worlds` works in every process.

    Args:
        name: Letters, digits, `_`, `-` and `.`.
        factory: Returns the world. It is called by keyword with the options that were given, `device` and the other
            fields of `WorldOptions`; an option that is not one of its parameters is refused. For a folder whose
            `world.yaml` says `kind: name`, it also gets that `folder`, a Path.

    Raises:
        ValueError: The name is one of ours or could be a path, or the factory cannot be called.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or name in OUR_WORLDS:
        raise ValueError(f"name: expected letters, digits, _, - and ., and none of {list(OUR_WORLDS)}, got {name!r}")
    if not callable(factory):
        raise ValueError(f"factory: expected a function that returns a world, got {type(factory).__name__}")
    _registered[name] = factory


def world_names() -> list[str]:
    """All names that `world=` takes."""
    return [*OUR_WORLDS, *sorted({*_registered, *(point.name for point in entry_points(group=ENTRY_POINTS))})]


def world_factory(name: str) -> WorldFactory | None:
    """The factory of this name: a registered one, or an installed package's; None if there is none.

    Raises:
        ValueError: Two packages have the name, or the package's factory cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    point = _entry_point(name)
    return None if point is None else _load(point)


def factory_version(name: str) -> str:
    """Where a name's factory comes from: its module and name and, of an installed package, the package's version."""
    if name in _registered:
        factory = _registered[name]
        return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"
    point = _entry_point(name)
    assert point is not None, f"factory_version: no factory has the name {name!r}"
    return point.value if point.dist is None else f"{point.value} {point.dist.name} {point.dist.version}"


def checked_world(world: object, name: str = "world") -> WorldModel:
    """Returns `world` unchanged, if it is a world.

    Raises:
        ValueError: It lacks a part of the protocol.
    """
    if isinstance(world, WorldModel):
        return world
    missing = [part for part in ("spec", "start", "extend") if not hasattr(world, part)]
    raise ValueError(
        f"{name}: expected a name, a folder or a WorldModel, got {type(world).__name__} without {', '.join(missing)}; "
        f"choose one of {world_names()}, or see model.world.protocol"
    )


def build_world(
    name: str, factory: WorldFactory, settings: dict[str, Any], folder: Path | None = None, stamp: int = 0
) -> WorldModel:
    """The world that a factory builds with these options; all environments of the process share it.

    Raises:
        ValueError: The factory does not name an option, or what it builds is no world.
    """
    parameters = inspect.signature(factory).parameters
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        for option in settings.keys() - parameters.keys():
            raise ValueError(
                f"{option}: expected the default, it has no effect on world={name!r}, got {settings[option]!r}; "
                "leave it out"
            )
    arguments = {**settings, **({} if folder is None else {"folder": folder})}
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"world: expected what {name!r} is built from, got {sorted(arguments)}: {error}; if it needs a folder, "
            f"name one whose world.yaml says 'kind: {name}'"
        ) from error
    return _made(name, factory, tuple(arguments.items()), stamp)


def _entry_point(name: str) -> EntryPoint | None:
    # one package may be found twice on the path; what counts is where its factory is
    found = {point.value: point for point in entry_points(group=ENTRY_POINTS, name=name)}
    if len(found) > 1:
        raise ValueError(f"world: expected one package that registers {name!r}, got {sorted(found)}; uninstall one")
    return next(iter(found.values()), None)


@lru_cache(maxsize=32)
def _load(point: EntryPoint) -> WorldFactory:
    try:
        factory: WorldFactory = point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"world: {point.name!r} cannot be imported from {point.value}: {error}; install what it needs"
        ) from error
    return factory


@lru_cache(maxsize=4)
def _made(name: str, factory: WorldFactory, arguments: tuple[tuple[str, Any], ...], stamp: int) -> WorldModel:
    return checked_world(factory(**dict(arguments)), f"world: what {name!r} builds")
