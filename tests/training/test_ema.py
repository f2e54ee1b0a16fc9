"""The average has a known answer, and applying it leaves the module's own parameters untouched."""

import pytest
import torch
from torch import nn

from model.training.ema import ExponentialMovingAverage


def constant(value: float) -> nn.Linear:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_known_answer_with_the_warm_up_of_the_decay() -> None:
    module = constant(0.0)
    average = ExponentialMovingAverage(module, decay=0.15)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    average.update(module, step=0)  # decay 1/10
    average.update(module, step=1)  # decay 0.15, since 2/11 is more
    expected = 1 - 0.1 * 0.15
    for parameter in average.parameters.values():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_a_module_that_stands_still_is_its_own_average() -> None:
    module = constant(0.3)
    average = ExponentialMovingAverage(module)
    for step in range(5):
        average.update(module, step)
    assert all(torch.equal(average.parameters[name], p) for name, p in module.named_parameters())


def test_what_is_frozen_stays_bit_for_bit_even_the_signs_of_its_zeros() -> None:
    module = nn.Sequential(nn.Linear(2, 2), constant(0.3))
    with torch.no_grad():
        module[0].weight.fill_(-0.0)
    module[0].requires_grad_(False)
    average = ExponentialMovingAverage(module)
    average.update(module, step=1000)
    with average.applied_to(module):
        assert torch.signbit(module[0].weight).all()
    assert torch.signbit(module[0].weight).all()


def test_lending_gives_the_average_and_takes_it_back_even_after_an_error() -> None:
    module = nn.Linear(3, 3)
    own = {name: p.clone() for name, p in module.named_parameters()}
    average = ExponentialMovingAverage(constant(0.5), 0.9)
    average.parameters = {name: torch.full_like(p, 0.5) for name, p in own.items()}
    with pytest.raises(RuntimeError, match="inside"), average.applied_to(module) as averaged:
        assert all(bool((p == 0.5).all()) for p in averaged.parameters())
        raise RuntimeError("inside")
    assert all(torch.equal(p, own[name]) for name, p in module.named_parameters())
    assert all(bool((p == 0.5).all()) for p in average.parameters.values())


def test_decay_must_be_less_than_one() -> None:
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\)"):
        ExponentialMovingAverage(nn.Linear(1, 1), 1.0)
