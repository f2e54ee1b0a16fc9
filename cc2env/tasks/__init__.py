"""The tasks. Each has a registered id and runs in every world and with every interface."""

import warnings
from typing import Any

from cc2env.tasks.explore import Explore
from cc2env.tasks.follow_path import FollowPath
from cc2env.tasks.goal_view import GoalView
from cc2env.tasks.hold_still import HoldStill
from cc2env.tasks.loop_closure import LoopClosure
from cc2env.tasks.task import ResetContext, Task, TaskState

__all__ = [
    "TASKS",
    "Explore",
    "FollowPath",
    "GoalView",
    "HoldStill",
    "LoopClosure",
    "ResetContext",
    "Task",
    "TaskState",
    "make_task",
    "task_class",
]

TASKS: dict[str, type[Task]] = {
    "Explore": Explore,
    "GoalView": GoalView,
    "FollowPath": FollowPath,
    "LoopClosure": LoopClosure,
    "HoldStill": HoldStill,
}


_RENAMED = {"Memory": "TaskState", "Opening": "ResetContext"}


def __getattr__(name: str) -> Any:
    """Names of the last version still work, with a warning."""
    if name in _RENAMED:
        warnings.warn(f"cc2env.tasks.{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        return globals()[_RENAMED[name]]
    raise AttributeError(f"module 'cc2env.tasks' has no attribute '{name}'")


def make_task(task: str | type[Task] | Task | None, **arguments: Any) -> Task:
    """Returns a task made from its name or class, or the given task itself; None gives `Task`.

    Raises:
        TypeError: An argument is unknown, or no name or class takes it.
        ValueError: The name is unknown, or an argument is out of range.
    """
    cls = task_class(task)
    if cls is not None:
        return cls(**arguments)
    if arguments:
        raise TypeError(
            f"make_task() got an unexpected keyword argument '{next(iter(arguments))}': name a task with it"
        )
    if task is not None and not isinstance(task, Task):
        raise ValueError(f"task: expected a name, a Task or None, got {type(task).__name__}; derive from Task")
    return task or Task()


def task_class(task: object) -> type[Task] | None:
    """Returns the class of a task's name, or the given class itself; None for a task object and for None.

    Raises:
        ValueError: The name is unknown.
    """
    if isinstance(task, str):
        if task not in TASKS:
            raise ValueError(f"task: expected one of {list(TASKS)}, got {task!r}; choose one")
        return TASKS[task]
    return task if isinstance(task, type) and issubclass(task, Task) else None
