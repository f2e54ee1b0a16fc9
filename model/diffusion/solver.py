"""ODE solvers as pure functions of a velocity callable (x, t[b]) -> v.

Teacher, student, guided model and toy ODEs share them. A solver does not see context frames: a callable
that has some appends them itself and returns only the new frames.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x `[b ...]`, t `[b]`) -> d x / d t, shaped as x."""

SolverName = Literal["euler", "heun"]


def euler(
    velocity: Velocity, x: Float[Tensor, "b *rest"], schedule: Float[Tensor, "steps"]
) -> Float[Tensor, "b *rest"]:
    """Euler's method along `schedule`: one evaluation a step, first order. Source: the paper, Sec. 3.1."""
    for t, t_next in pairwise(schedule.tolist()):
        x = x + (t_next - t) * velocity(x, _times(t, x, schedule))
    return x


def heun(velocity: Velocity, x: Float[Tensor, "b *rest"], schedule: Float[Tensor, "steps"]) -> Float[Tensor, "b *rest"]:
    """Heun's method along `schedule`: two evaluations a step, second order.

    A step that ends at t = 0 is Euler's: the limit of the velocity of data on a manifold is not its value there,
    and no network is trained at t = 0. The order stays 2. Source: Karras et al. 2022, Alg. 1.
    """
    for t, t_next in pairwise(schedule.tolist()):
        slope = velocity(x, _times(t, x, schedule))
        if t_next != 0:
            slope_next = velocity(x + (t_next - t) * slope, _times(t_next, x, schedule))
            slope = (slope + slope_next) / 2
        x = x + (t_next - t) * slope
    return x


def solver_named(name: SolverName) -> Callable[[Velocity, Tensor, Tensor], Tensor]:
    """`euler` or `heun`.

    Raises:
        ValueError: for another name.
    """
    match name:
        case "euler":
            return euler
        case "heun":
            return heun
        case _:
            raise ValueError(f"solver: expected 'euler' or 'heun', got {name!r}; choose one of them")


def evaluations_of(name: SolverName, num_steps: int) -> int:
    """How often the solver calls the velocity on a schedule of `num_steps` steps that ends at 0."""
    return 2 * num_steps - 1 if name == "heun" else num_steps


def _times(t: float, x: Tensor, schedule: Tensor) -> Tensor:
    return torch.full((x.shape[0],), t, device=x.device, dtype=schedule.dtype)
