"""Balance: planted paths fall into the planted categories; pruning keeps the most informative under the cap."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from model.curation.balance import MAIN_TURNS, PRIMARY_DIRECTIONS, describe, keypoints, plot_balance, prune
from model.geometry import se3

STEPS = {
    "right": (1.0, 0.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "down": (0.0, 1.0, 0.0),
    "up": (0.0, -1.0, 0.0),
    "forward": (0.0, 0.0, 1.0),
    "back": (0.0, 0.0, -1.0),
}


def path(*moves: tuple[str, int], yaw: float = 0.0, noise: float = 0.0) -> torch.Tensor:
    """Moves of 0.2 m a pose along fixed axes, seen from a world turned by some rotation; yaw in radians a pose."""
    centres = [torch.zeros(3)]
    for name, count in moves:
        centres += [centres[-1] + 0.2 * k * torch.tensor(STEPS[name]) for k in range(1, count + 1)]
    t = torch.stack(centres)
    t = t + noise * torch.randn(t.shape, generator=torch.Generator().manual_seed(1))
    turn = torch.zeros(len(t), 6)
    turn[:, 4] = yaw * torch.arange(len(t))
    local = se3.exp(turn)
    local[:, :3, 3] = t
    return se3.exp(torch.tensor([3.0, -1.0, 2.0, 0.4, -1.1, 0.7])) @ local


@pytest.mark.parametrize("primary", STEPS)
@pytest.mark.parametrize("turn", ["none", *STEPS, "reverse"])
def test_planted_paths_fall_into_planted_categories(primary: str, turn: str) -> None:
    opposite = {"right": "left", "down": "up", "forward": "back"} | {"left": "right", "up": "down", "back": "forward"}
    if turn in (primary, opposite[primary]):
        return  # no turn, and the reversal, which has its own name
    second = opposite[primary] if turn == "reverse" else turn
    moves = [(primary, 14)] + ([] if turn == "none" else [(second, 9)])
    assert describe(path(*moves, noise=0.005)).category == (primary, turn)


def test_a_turn_before_the_longest_segment_is_no_main_turn() -> None:
    found = describe(path(("right", 7), ("forward", 15)))
    assert found.category == ("forward", "none")
    assert len(found.segments) == 2 and found.turns[0] == pytest.approx(90, abs=1)


def test_keypoints_are_the_corners_even_where_the_camera_waits() -> None:
    corner = path(("forward", 10), ("right", 8))
    assert keypoints(corner[:, :3, 3]) == [10]
    waiting = torch.cat((corner[:11], corner[10:11].expand(12, 4, 4), corner[11:]))
    assert describe(waiting).category == describe(corner).category == ("forward", "right")


def test_a_still_camera_and_a_pan_on_the_spot_are_still() -> None:
    still = torch.eye(4).repeat(20, 1, 1)
    pan = still.clone()
    pan[:, :3, :3] = se3.exp(torch.linspace(0, 1, 20)[:, None] * torch.tensor([0, 0, 0, 0, 1.0, 0]))[:, :3, :3]
    assert describe(still).category == describe(pan).category == ("still", "none")
    assert describe(pan).importance > describe(still).importance == 0.0


def test_importance_grows_with_turns_and_with_views() -> None:
    straight, turned = path(("forward", 20)), path(("forward", 12), ("right", 8))
    panned, twice = path(("forward", 20), yaw=0.03), path(("forward", 9), ("right", 6), ("up", 6))
    assert describe(straight).importance == 0.0
    assert describe(straight).importance < describe(panned).importance < describe(turned).importance
    assert describe(turned).importance < describe(twice).importance


def test_after_pruning_no_category_is_over_the_cap_and_the_most_informative_stay(tmp_path: Path) -> None:
    paths = {f"forward{k}": describe(path(("forward", 20), yaw=0.02 * k)) for k in range(6)}
    paths |= {f"corner{k}": describe(path(("forward", 12 + k), ("left", 8))) for k in range(2)}
    kept, removed = prune(paths, cap=3)
    assert max(Counter(paths[name].category for name in kept).values()) <= 3
    assert kept == ["forward3", "forward4", "forward5", "corner0", "corner1"]
    assert removed == ["forward0", "forward1", "forward2"]
    plot_balance(tmp_path / "balance.png", paths, kept)
    assert (tmp_path / "balance.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="cap: expected"):
        prune(paths, cap=0)


def test_the_categories_are_n_times_m() -> None:
    assert (len(PRIMARY_DIRECTIONS), len(MAIN_TURNS)) == (7, 8)
