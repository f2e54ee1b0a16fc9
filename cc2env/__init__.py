"""CameraCtrlWorld: a Gymnasium environment whose world is generated while a camera flies through it.

Importing this package registers the environment and nothing more: no network, no torch.
"""

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gymnasium.envs.registration import register

import model  # noqa: F401  # limits the spinning of OpenMP threads, before torch is loaded

ENV_ID = "CameraCtrlWorld-v0"
MAX_EPISODE_STEPS = 64


def _single_thread() -> None:
    """Sets one thread: a forked child would wait forever for OpenMP threads, which only its parent has."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_single_thread)

register(
    id=ENV_ID,
    entry_point="cc2env.env:CameraCtrlWorldEnv",
    vector_entry_point="cc2env.vector_env:CameraCtrlWorldVectorEnv",
    max_episode_steps=MAX_EPISODE_STEPS,
)
# the tasks are defined in cc2env.tasks
TASK_EPISODE_STEPS = {"Explore": 32, "GoalView": 16, "FollowPath": 64, "LoopClosure": 24, "HoldStill": 16}
TASK_IDS = {task: f"CameraCtrlWorld-{task}-v0" for task in TASK_EPISODE_STEPS}

for _task, _steps in TASK_EPISODE_STEPS.items():
    register(
        id=TASK_IDS[_task],
        entry_point="cc2env.env:CameraCtrlWorldEnv",
        vector_entry_point="cc2env.vector_env:CameraCtrlWorldVectorEnv",
        max_episode_steps=_steps,
        kwargs={"task": _task},
    )


def register_world(name: str, factory: Callable[..., Any]) -> None:
    """Registers the factory that builds `world=name`; see `model.world.registry.register_world`."""
    from model.world import registry

    registry.register_world(name, factory)


def world_names() -> list[str]:
    """Returns all names that `world=` takes; it takes folders, too."""
    from model.world import registry

    return registry.world_names()


def __getattr__(name: str) -> ModuleType:
    """Imports `cc2env.wrappers`, `tasks`, `testing` or `viewer` at first use: `import cc2env` loads no torch."""
    if name in ("tasks", "testing", "viewer", "wrappers"):
        return importlib.import_module(f"cc2env.{name}")
    raise AttributeError(f"module 'cc2env' has no attribute '{name}'")


__all__ = ["ENV_ID", "MAX_EPISODE_STEPS", "TASK_EPISODE_STEPS", "TASK_IDS", "register_world", "world_names"]
