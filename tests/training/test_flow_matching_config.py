"""Settings of flow matching that make no sense are refused with their name."""

import math
from typing import Any

import pytest

from model.training.flow_matching_step import FlowMatchingConfig
from model.training.windows import (
    WindowConfig,
)


def config_with(num_context: int, **changes: Any) -> FlowMatchingConfig:
    settings: dict[str, Any] = {"single_latent_share": 0.0, "text_dropout": 0.0, "reference_jitter": 0.0}
    return FlowMatchingConfig(context_shares={num_context: 1.0}, **{**settings, **changes})


@pytest.mark.parametrize("memory", [4, 7, -1])
def test_memory_leaves_room_for_the_latest_frames(memory: int) -> None:
    with pytest.raises(ValueError, match="memory_latents"):
        config_with(4, memory_latents=memory)


@pytest.mark.parametrize("shares", [{}, {-1: 1.0}, {1: 0.0}, {1: -1.0, 0: 2.0}, {1: 2.0}, {1: math.nan, 0: 1.0}])
def test_shares_that_make_no_sense_are_refused(shares: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="context_shares"):
        WindowConfig(context_shares=shares)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
@pytest.mark.parametrize("name", ["single_latent_share", "text_dropout", "context_noise", "labelled_share"])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected a number in \\[0, 1\\], got {value}"):
        config_with(1, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("shift", 0.0), ("shift", -1.0), ("shift", math.inf), ("reference_jitter", -1.0), ("num_new", 0)],
)
def test_sizes_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected .* got {value}"):
        config_with(1, **{name: value})
