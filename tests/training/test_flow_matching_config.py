"""Settings of flow matching: what makes no sense is refused with its name; memory as in an episode."""

import math
from typing import Any

import pytest
import torch

from model.training.flow_matching_step import FlowMatchingConfig
from model.training.windows import LatentBatch, WindowConfig, WindowSampler


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


def test_only_the_longest_context_has_memory_as_in_an_episode() -> None:
    config = WindowConfig(context_shares={2: 0.5, 4: 0.5, 9: 0.0}, memory_latents=2, reference_jitter=0.0)
    numbers = torch.arange(12.0)[None, None, :, None, None].expand(8, 1, 12, 2, 2)  # latents that say their number
    poses, lens = torch.eye(4).expand(8, 12, 4, 4), torch.tensor([0.65, 1.0, 0.5, 0.5]).expand(8, 4)
    batch = LatentBatch(numbers, poses, lens, torch.zeros(8, 1, 4), torch.ones(8, dtype=torch.bool))
    windows, rng = WindowSampler(config, torch.zeros(1, 4)), torch.Generator().manual_seed(0)
    gaps: dict[int, set[float]] = {2: set(), 4: set()}
    for _ in range(20):
        window = windows.draw_window(batch, rng)
        frames = window.latents[:, 0, : window.num_context, 0, 0]
        gaps[window.num_context] |= set(frames.diff(dim=1).flatten().tolist())
    assert gaps[2] == {1} and max(gaps[4]) > 1
