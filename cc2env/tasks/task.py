"""The interface of tasks: `open` returns an episode's state, a dict of arrays, and `judge` returns the next one.

The task object itself keeps no state: one object serves all rows, and an episode's snapshot holds the task's
progress, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cc2env import rewards
from cc2env.rewards import Transition
from cc2env.spaces import MAX_ROTATION, MAX_TRANSLATION
from model.fingerprint import fingerprint, fingerprint_number

TaskState = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ResetContext:
    """What a task knows at a reset; its arrays are read-only.

    Attributes:
        first_frame: The view from the start pose.
        c2w: The start pose.
        intrinsics: fx fy cx cy, normalised.
        poses_per_clip: Latent poses of one step.
        seconds_per_pose: Seconds of the film between two latent poses.
        rng: A random generator that depends on the episode's seed alone.
        plan: Returns the poses [n, 4, 4] to which twists [n, 6] lead from the start pose; obstacles stop the camera
            where the world knows its free space.
        look: Returns the last frame of a flight along poses [n, 4, 4], n a multiple of `poses_per_clip`. The episode
            itself stays where it is. The call costs as much as the flight.
    """

    first_frame: UInt8[np.ndarray, "h w 3"]
    c2w: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "4"]
    poses_per_clip: int
    seconds_per_pose: float
    rng: np.random.Generator
    plan: Callable[[np.ndarray], np.ndarray]
    look: Callable[[np.ndarray], np.ndarray]


class Task:
    """Base class of all tasks; its reward is 0, and it never terminates an episode.

    To write a task, derive from this class and pass an object as `task` to an environment. The arrays of its state
    keep their shapes and types throughout an episode, and are read-only.
    """

    @cached_property
    def fingerprint(self) -> int:
        """A 63-bit hash of the class's name and its attributes before the first episode; `restore` compares it.

        Numbers, texts, paths, arrays and lists, tuples and dicts of them count by value, others by class or name only.
        """
        return fingerprint_number(type(self).__qualname__.encode(), _spell(vars(self)).encode())

    def open(self, context: ResetContext) -> TaskState:
        """Returns the task's state after a reset."""
        return {}

    def judge(self, state: TaskState, transition: Transition) -> tuple[TaskState, float, bool]:
        """Returns the state after a step, the step's reward, and whether the task has ended."""
        return state, 0.0, False

    def info(self, state: TaskState) -> dict[str, Any]:
        """Returns the task's part of `info`: always the same keys, with copies of arrays of the state."""
        return {}


def _spell(value: object) -> str:
    """A text of a value that is the same in every process."""
    match value:
        case dict():
            return "{" + ",".join(sorted(f"{_spell(key)}:{_spell(item)}" for key, item in value.items())) + "}"
        case list() | tuple():
            return "[" + ",".join(_spell(item) for item in value) + "]"
        case np.ndarray() if value.dtype != object:
            return f"{value.dtype}{value.shape}{fingerprint(value.tobytes())}"
        case bool() | int() | float() | np.integer() | np.floating() if -(2**53) < value < 2**53:
            return repr(float(value))  # 1 and 1.0 are the same argument
        case None | int() | float() | str() | bytes() | Path():
            return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def wander(rng: np.random.Generator, num_poses: int, poses_per_knot: int) -> Float[np.ndarray, "n 6"]:
    """Returns smooth random twists, mostly forward and turning, within the bounds of the action space."""
    num_knots = -(-num_poses // poses_per_knot) + 1
    low = np.array([-0.25, -0.1, 0.1, -0.1, -0.6, 0.0])  # shares of the bounds
    high = np.array([0.25, 0.1, 0.7, 0.1, 0.6, 0.0])
    limits = np.array([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3)
    knots = rng.uniform(low, high, (num_knots, 6)) * limits
    at = np.arange(num_poses) / poses_per_knot
    twists = np.stack([np.interp(at, np.arange(num_knots), knots[:, axis]) for axis in range(6)], axis=-1)
    return twists.astype(np.float32)


def is_close(a: np.ndarray, b: np.ndarray, distance: float, angle: float) -> bool:
    """Returns whether two poses are within metres and radians of each other."""
    return bool(rewards.distance_between(a, b) <= distance and rewards.rotation_angle(a, b) <= angle)


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless the argument is positive and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a positive number, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """Raises ValueError unless the argument is 0 or more, and finite."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def check_count(name: str, value: int) -> None:
    """Raises ValueError unless the argument is 1 or more."""
    if value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value}")
