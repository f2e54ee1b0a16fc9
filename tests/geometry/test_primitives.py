"""Each named move goes where its name says."""

import math
from collections.abc import Callable

import pytest
import torch

from model.geometry import camera, primitives, se3
from model.geometry.trajectory import CameraTrajectory

MOVES: dict[str, Callable[[], CameraTrajectory]] = {
    "dolly": lambda: primitives.dolly(2.0, 5),
    "truck": lambda: primitives.truck(2.0, 5),
    "pedestal": lambda: primitives.pedestal(2.0, 5),
    "pan": lambda: primitives.pan(0.5, 5),
    "tilt": lambda: primitives.tilt(0.5, 5),
    "roll": lambda: primitives.roll(0.5, 5),
    "orbit": lambda: primitives.orbit(0.5, 3.0, 5),
    "hold_still": lambda: primitives.hold_still(5),
}


@pytest.mark.parametrize("name", MOVES)
def test_every_move_starts_at_the_identity_and_stays_rigid(name: str) -> None:
    path = MOVES[name]()
    assert len(path) == 5 and path.c2w.dtype == torch.float32
    se3.check_poses(name, path.c2w)
    torch.testing.assert_close(path.c2w[0], torch.eye(4))
    torch.testing.assert_close(path.intrinsics, camera.default_intrinsics().expand(5, 4))


@pytest.mark.parametrize(("name", "end"), [("dolly", (0, 0, 2)), ("truck", (2, 0, 0)), ("pedestal", (0, -2, 0))])
def test_moves_end_where_their_names_say_and_look_ahead(name: str, end: tuple[float, ...]) -> None:
    path = MOVES[name]()
    torch.testing.assert_close(path.c2w[-1, :3, 3], torch.tensor(end, dtype=torch.float32))
    torch.testing.assert_close(path.c2w[:, :3, :3], torch.eye(3).expand(5, 3, 3))


@pytest.mark.parametrize(
    ("name", "axis", "toward"),
    [("pan", 2, (1, 0, 0)), ("tilt", 2, (0, -1, 0)), ("roll", 0, (0, 1, 0))],
    ids=["pan turns the view right", "tilt turns the view up", "roll sinks the right side"],
)
def test_turns_turn_the_right_way_on_the_spot(name: str, axis: int, toward: tuple[float, ...]) -> None:
    path = MOVES[name]()
    expected = math.cos(0.5) * torch.eye(3)[axis] + math.sin(0.5) * torch.tensor(toward)
    torch.testing.assert_close(path.c2w[-1, :3, axis], expected)
    assert path.path_length() == 0


def test_orbit_starts_to_the_right_and_keeps_its_centre_in_the_middle_at_its_distance() -> None:
    path = MOVES["orbit"]()
    uv, depth = camera.project(torch.tensor([0.0, 0.0, 3.0]), path.c2w, path.intrinsics)
    torch.testing.assert_close(uv, torch.full((5, 2), 0.5))
    torch.testing.assert_close(depth, torch.full((5,), 3.0))
    torch.testing.assert_close(path.c2w[-1, :3, 3], torch.tensor([3 * math.sin(0.5), 0, 3 - 3 * math.cos(0.5)]))


def test_a_move_needs_two_poses() -> None:
    with pytest.raises(ValueError, match=r"^num_poses: "):
        primitives.dolly(1.0, 1)
    assert len(primitives.hold_still(1)) == 1
