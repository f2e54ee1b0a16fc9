"""How far a solid camera gets, where the distance to the nearest surface is known by a formula."""

import numpy as np
import pytest
import torch

from model.geometry import se3
from model.geometry.clearance import CAMERA_MARGIN, free_fraction


def wall(points, _):
    """A wall across the way, two metres ahead of the origin."""
    return np.abs(points[:, 2] - 2)


def at(*place):
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor(place)
    return pose


def twist(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_a_camera_stops_at_the_margin():
    share = free_fraction(wall, at(0.0, 0.0, 1.2), twist(0.0, 0.0, 0.6, 0.0, 0.0, 0.0))
    assert share == pytest.approx((2 - CAMERA_MARGIN - 1.2) / 0.6, abs=3e-3)
    assert free_fraction(wall, at(0.0, 0.0, 1.2), twist(0.0, 0.0, 0.6, 0.0, 0.0, 0.0), margin=0.1) == 1


def test_moves_along_and_away_from_a_wall_are_free_also_within_the_margin():
    close = at(0.0, 0.0, 1.8)
    for move in ((0.0, 0.0, -0.6), (0.6, 0.0, 0.0), (0.0, 0.0, 0.0)):
        assert free_fraction(wall, close, twist(*move, 0.0, 0.2, 0.0)) == 1
    assert free_fraction(wall, close, twist(0.0, 0.0, 0.1, 0.0, 0.0, 0.0)) == 0


def test_what_matters_is_where_the_camera_faces():
    turned = at(0.0, 0.0, 1.8) @ se3.exp(twist(0.0, 0.0, 0.0, 0.0, torch.pi, 0.0))
    assert free_fraction(wall, turned, twist(0.0, 0.0, 0.6, 0.0, 0.0, 0.0)) == 1
    assert free_fraction(wall, turned, twist(0.0, 0.0, -0.6, 0.0, 0.0, 0.0)) == 0


def test_surfaces_that_come_by_themselves_block_nothing():
    def closing(points, parts):
        return np.abs(points[:, 2] - (2 - parts))

    assert free_fraction(closing, at(0.0, 0.0, 0.9), twist(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)) == 1
    assert free_fraction(closing, at(0.0, 0.0, 0.9), twist(0.0, 0.0, 0.6, 0.0, 0.0, 0.0)) < 1
