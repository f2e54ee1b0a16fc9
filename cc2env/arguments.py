"""The keyword arguments that all three environments take; an unknown one raises a TypeError that lists the known."""

import dataclasses
import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from cc2env.options import EnvOptions
from cc2env.task_runner import TaskConfig, make_task_config
from cc2env.tasks import task_class


def read_arguments(constructor: Callable[..., Any], arguments: dict[str, Any]) -> tuple[EnvOptions, TaskConfig]:
    """Returns the options of the world and its clips, and the task's configuration, from keyword arguments.

    Args:
        constructor: Takes the arguments; those of its own signature are known, too.
        arguments: The fields of `EnvOptions`, `task`, `reward`, `collision`, and the task's own arguments.

    Raises:
        TypeError: An argument is unknown. The message has Python's words, which TorchRL's `GymEnv` looks for.
        ValueError: An argument is out of range, or no task has that name.
    """
    names = [field.name for field in dataclasses.fields(EnvOptions)]
    options = {name: arguments.pop(name) for name in names if name in arguments}
    _read_horizontal_fov(options, arguments)
    cls = task_class(arguments.get("task"))
    own = [] if cls is None else _names(cls)
    known = list(dict.fromkeys(_names(constructor)[1:] + names + _names(make_task_config) + own))
    if unknown := sorted(set(arguments) - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        guess = f" did you mean {near[0]}?" if near else ""
        name = constructor.__qualname__
        raise TypeError(f"{name}() got an unexpected keyword argument '{unknown[0]}':{guess} known: {', '.join(known)}")
    return EnvOptions(**options), make_task_config(**arguments)


def read_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """Returns the options of a reset, checked for unknown keys."""
    options = options or {}
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"options: expected keys among {list(known)}, got {unknown}; leave them out")
    return options


def _read_horizontal_fov(options: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Converts the old argument `horizontal_fov`, radians, to `horizontal_fov_deg`."""
    old, degrees = arguments.pop("horizontal_fov", None), options.get("horizontal_fov_deg")
    if old is not None:
        if degrees is not None:
            raise ValueError("horizontal_fov: expected nothing beside horizontal_fov_deg, got both; leave it out")
        warnings.warn(
            "horizontal_fov (radians) goes with the next version; give horizontal_fov_deg",
            DeprecationWarning,
            stacklevel=4,
        )
        options["horizontal_fov_deg"] = degrees = math.degrees(old)
    if degrees is not None and not 0 < degrees < 180:
        raise ValueError(f"horizontal_fov_deg: expected degrees between 0 and 180, got {degrees}")


def _names(call: Callable[..., Any]) -> list[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(call).parameters.items() if parameter.kind in named]
