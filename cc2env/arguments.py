"""The keyword arguments of the environments: unknown ones are a TypeError that helps, old names work for a while."""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from cc2env.tasks import Task, task_class


def check_arguments(
    constructor: Callable[..., Any], task: str | type[Task] | Task | None, rest: Mapping[str, Any]
) -> None:
    """Checks the arguments of an environment that its constructor does not name: they must be the task's.

    Raises:
        TypeError: One of them is unknown. The words are Python's own, for which TorchRL's `GymEnv` waits.
        ValueError: The task's name is unknown.
    """
    cls = task_class(task)
    own = [] if cls is None else _names(cls)
    if unknown := sorted(set(rest) - set(own)):
        known = [name for name in _names(constructor) if name != "self"] + own
        near = difflib.get_close_matches(unknown[0], known, n=1)
        guess = f" did you mean {near[0]}?" if near else ""
        name = constructor.__qualname__
        raise TypeError(f"{name}() got an unexpected keyword argument '{unknown[0]}':{guess} known: {', '.join(known)}")


def read_fov(horizontal_fov_deg: float | int | None, rest: dict[str, Any]) -> float | None:
    """Returns the horizontal field of view in radians; takes the old argument `horizontal_fov`, radians, out of `rest`.

    Raises:
        ValueError: The angle is out of range, or given twice.
    """
    old = rest.pop("horizontal_fov", None)
    if old is not None:
        if horizontal_fov_deg is not None:
            raise ValueError("horizontal_fov: expected nothing beside horizontal_fov_deg, got both; leave it out")
        warnings.warn(
            "horizontal_fov (radians) goes with the next version; give horizontal_fov_deg",
            DeprecationWarning,
            stacklevel=3,
        )
        horizontal_fov_deg = math.degrees(old)
    if horizontal_fov_deg is None:
        return None
    if not 0 < horizontal_fov_deg < 180:
        raise ValueError(f"horizontal_fov_deg: expected degrees between 0 and 180, got {horizontal_fov_deg}")
    return math.radians(horizontal_fov_deg)


def _names(call: Callable[..., Any]) -> list[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(call).parameters.items() if parameter.kind in named]
