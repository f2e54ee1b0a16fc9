"""Tasks: what an episode is for. Each is a registered id; all play in every world and behind every interface."""

from __future__ import annotations

from typing import Any

from cc2env.tasks.explore import Explore
from cc2env.tasks.follow_path import FollowPath
from cc2env.tasks.goal_view import GoalView
from cc2env.tasks.hold_still import HoldStill
from cc2env.tasks.loop_closure import LoopClosure
from cc2env.tasks.task import Memory, Opening, Task

__all__ = [
    "TASKS",
    "Explore",
    "FollowPath",
    "GoalView",
    "HoldStill",
    "LoopClosure",
    "Memory",
    "Opening",
    "Task",
    "make_task",
]

TASKS: dict[str, type[Task]] = {
    "Explore": Explore,
    "GoalView": GoalView,
    "FollowPath": FollowPath,
    "LoopClosure": LoopClosure,
    "HoldStill": HoldStill,
}


def make_task(task: str | Task | None, **arguments: Any) -> Task:
    """Returns the task of a name with its arguments, or the task itself; None is the one without a purpose.

    Raises:
        ValueError: The name or an argument is unknown, an argument is out of range, or there is no task to take it.
    """
    if isinstance(task, str):
        if task not in TASKS:
            raise ValueError(f"task: expected one of {list(TASKS)}, got {task!r}; choose one")
        known = list(TASKS[task].__dataclass_fields__)  # type: ignore[attr-defined]
        if unknown := sorted(set(arguments) - set(known)):
            raise ValueError(f"{unknown[0]}: expected an argument of {task}, {known}, got another; leave it out")
        return TASKS[task](**arguments)
    if arguments:
        raise ValueError(f"{next(iter(arguments))}: expected no such argument without a task's name; leave it out")
    if task is not None and not isinstance(task, Task):
        raise ValueError(f"task: expected a name, a Task or None, got {type(task).__name__}; derive from Task")
    return task or Task()
