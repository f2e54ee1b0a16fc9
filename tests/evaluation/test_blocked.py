"""Blocked, against the renderer: precision and recall by hand, flights that come near things, the same questions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.build import BlockedConfig
from model.checkpoint import save_component
from model.cli.evaluate import run_blocked
from model.data.synthetic.free_space import distance_to_surface
from model.evaluation.blocked import (
    BlockedResult,
    approach,
    blocked_table,
    is_blocked,
    precision_and_recall,
    probes,
)
from model.training.latent_set import encoder_fingerprint
from model.vae.latent_depth import LatentDepth, LatentDepthConfig
from model.world.protocol import WorldState
from model.world.synthetic_world import SyntheticWorld


def test_precision_and_recall_by_hand() -> None:
    truth, answer = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert precision_and_recall(truth, answer) == (0.5, pytest.approx(1 / 3))
    assert precision_and_recall(truth, truth) == (1.0, 1.0)
    nothing = np.zeros(5, bool)
    assert math.isnan(precision_and_recall(truth, nothing)[0]) and math.isnan(precision_and_recall(nothing, answer)[1])


def test_the_table_tells_each_kind_of_move() -> None:
    names = np.array(["flight", "flight", "down", "up"])
    truth, wrong = np.array([True, False, True, False]), np.array([False, True, False, False])
    lines = blocked_table(BlockedResult(names, truth, truth, wrong)).splitlines()
    assert lines[2] == "| all | 4 | 50 % | 100 % | 100 % | 0 % | 0 % |"
    assert "| flight | 2 | 50 % | 100 % | 100 % | 0 % | 0 % |" in lines
    assert "| up | 1 | 0 % | - | - | - | - |" in lines


def test_flights_go_towards_things_and_never_through_them() -> None:
    world = SyntheticWorld()
    state, _ = world.start([3, 4, 5, 6])
    before = [nearest(world, state, row)[0] for row in range(4)]
    for _ in range(2):
        segment = approach(world, state)
        assert torch.equal(segment, approach(world, state))
        state, _ = world.extend(state, segment)
    after, clearances = zip(*(nearest(world, state, row) for row in range(4)), strict=True)
    assert np.mean(after) < np.mean(before) / 2 and min(clearances) > 0


def nearest(world: SyntheticWorld, state: WorldState, row: int) -> tuple[float, float]:
    """Metres to the middle of the nearest object, seen from above, and to the nearest surface."""
    here = (state.memory["start_c2w"][row] @ state.c2w[row])[:3, 3]
    scene, seconds = world.scene(int(state.seed[row])), int(state.step[row]) * 16 / 12
    to_middle = min(math.hypot(o.x - here[0], o.z - here[2]) for o in scene.objects)
    return to_middle, float(distance_to_surface(scene, here.double().numpy()[None], seconds)[0])


def test_moves_are_within_the_bounds_of_an_action_and_ask_for_all_directions() -> None:
    moves = probes(4, seed=1)
    assert len(moves) == 12 and all(m.shape == (4, 6) for m in moves.values())
    stacked = torch.stack(list(moves.values()))
    assert stacked[..., :3].abs().max() <= 0.6 and stacked[..., 3:].abs().max() <= 0.2
    world = SyntheticWorld()
    state, _ = world.start([1])
    assert is_blocked(world, state, moves["down"]) and not is_blocked(world, state, moves["up"])


@pytest.fixture
def solid_folder(tmp_path: Path, random_world: Any) -> Path:
    """A world of random weights with a depth head for its latents."""
    folder = random_world.save(tmp_path / "world")
    head = LatentDepth(LatentDepthConfig(latent_channels=4, width=8, num_blocks=1))
    save_component(folder / "depth", head, head.config, {"latents": encoder_fingerprint(random_world.vae)})
    return folder


def test_a_world_is_asked_the_same_as_the_renderer(solid_folder: Path, tmp_path: Path) -> None:
    config = BlockedConfig(world=str(solid_folder), num_scenes=3, batch_size=2, out=str(tmp_path / "blocked.json"))
    result = run_blocked(config)
    assert len(result.probe) == 36 and result.truth[result.probe == "down"].all()
    # an untrained head sees a wall e metres ahead in every frame: what leads there is blocked, what leads up is not
    assert result.given[result.probe == "forward"].any() and result.generated.dtype == np.bool_
    assert (tmp_path / "blocked.md").read_text() == blocked_table(result)


def test_what_cannot_be_asked_is_named(solid_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^world: expected a learned world with a depth head"):
        run_blocked(BlockedConfig(world="synthetic", out=str(tmp_path / "blocked.json")))
    with pytest.raises(ValueError, match=r"^num_scenes: expected at least 1, got 0"):
        run_blocked(BlockedConfig(world=str(solid_folder), num_scenes=0, out=str(tmp_path / "blocked.json")))
