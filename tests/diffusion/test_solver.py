"""Solvers: order of convergence on ODEs with known answers, exactness on straight paths, counts and purity."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from model.diffusion.rectified_flow import interpolate
from model.diffusion.solver import Velocity, euler, evaluations_of, heun, solver_named
from model.diffusion.timesteps import sampling_schedule

SOLVERS = {"euler": euler, "heun": heun}


def schedule_of(num_steps: int, end: float) -> Tensor:
    return torch.linspace(1, end, num_steps + 1, dtype=torch.float64)


def error(name: str, num_steps: int, end: float) -> float:
    """Against the solution x(t) = x(1) exp(sin 2t - sin 2) of dx/dt = 2 cos(2t) x."""
    x = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
    end_point = SOLVERS[name](lambda x, t: 2 * torch.cos(2 * t)[:, None] * x, x, schedule_of(num_steps, end))
    return (end_point - x * math.exp(math.sin(2 * end) - math.sin(2))).abs().max().item()


@pytest.mark.parametrize("end", [0.0, 0.25])
@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(name: str, order: int, end: float) -> None:
    coarse, fine = error(name, 128, end), error(name, 256, end)
    # The next term of the error's expansion is about 1/128 of the first.
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_heun_is_far_more_exact_than_euler_at_equal_cost() -> None:
    assert error("heun", 16, 0.25) < 0.1 * error("euler", 32, 0.25)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shift", [1.0, 12.0])
def test_one_data_point_is_reached_exactly_in_any_number_of_steps(name: str, shift: float) -> None:
    """All paths to a single point are straight: v(x, t) = (x - point) / t."""
    generator = torch.Generator().manual_seed(3)
    point = torch.randn(1, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    visited: list[tuple[Tensor, Tensor]] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        visited.append((x, t))
        return (x - point) / t[:, None]

    for num_steps in (1, 3, 8):
        x = SOLVERS[name](velocity, noise, sampling_schedule(num_steps, shift).double())
        torch.testing.assert_close(x, point.expand(5, 4), atol=1e-12, rtol=0)
    for x, t in visited:
        torch.testing.assert_close(x, interpolate(point.expand(5, 4), noise, t), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "tolerance"), [("euler", 0.03), ("heun", 4e-4)])
def test_gaussian_data_is_recovered_with_its_mean_and_spread(name: str, tolerance: float) -> None:
    """For data N(mean, s^2) the marginal velocity is affine and noise z flows to mean + s z."""
    mean, s = 1.5, 0.5

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        variance = (1 - t) ** 2 * s**2 + t**2
        return -mean + (t - (1 - t) * s**2) / variance * (x - (1 - t) * mean)

    # The tolerances are 1.3 times what 100 steps leave at three standard deviations.
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    x = SOLVERS[name](velocity, z, sampling_schedule(100).double())
    torch.testing.assert_close(x, mean + s * z, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_number_of_evaluations_is_as_announced(name: Any) -> None:
    calls = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        assert t.shape == (3,) and (t == t[0]).all()
        return -x

    solver_named(name)(velocity, torch.ones(3, 2), sampling_schedule(6, 3.0))
    assert calls == evaluations_of(name, 6)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_leave_their_input_alone_and_keep_its_dtype(name: str) -> None:
    x = torch.ones(2, 3, dtype=torch.float32)
    end = SOLVERS[name](lambda x, t: x, x, sampling_schedule(2))
    assert (x == 1).all() and end.dtype == torch.float32


@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_flow_through_the_solver(name: str) -> None:
    x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    flow: Velocity = lambda x, t: rate * x  # noqa: E731
    SOLVERS[name](flow, x, schedule_of(50, 0.0)).sum().backward()
    assert x.grad is not None and rate.grad is not None
    assert x.grad.item() == pytest.approx(math.exp(-0.3), abs=1e-3)
    assert rate.grad.item() == pytest.approx(-math.exp(-0.3), abs=0.01)


def test_an_unknown_solver_is_refused() -> None:
    name: Any = "rk4"
    with pytest.raises((ValueError, TypeError), match=r"solver|name"):
        solver_named(name)
