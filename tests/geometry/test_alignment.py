"""Alignment: a planted similarity is found, a second implementation agrees, and what is open is settled."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import config
from torch import Tensor

from model.geometry import primitives, se3
from model.geometry.alignment import rotation_error_deg, similarity, trajectory_errors, transform
from model.geometry.trajectory import CameraTrajectory


def wander(num_poses: int = 20) -> Tensor:
    twists = 0.4 * torch.randn(num_poses - 1, 6, dtype=torch.float64)
    start = torch.eye(4, dtype=torch.float64)
    return CameraTrajectory.from_twists(start, twists, torch.ones(4, dtype=torch.float64)).c2w


def planted() -> tuple[Tensor, Tensor, Tensor]:
    pose = se3.exp(torch.randn(6, dtype=torch.float64))
    return torch.tensor(2.7, dtype=torch.float64), pose[:3, :3], pose[:3, 3]


def poses_at(points: Tensor) -> Tensor:
    """Poses with these centres, which all look ahead."""
    return se3.from_rotation_translation(torch.eye(3, dtype=points.dtype).expand(len(points), 3, 3), points)


def umeyama_numpy(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The 1991 paper's equations 38 to 43, line by line."""
    mean_x, mean_y = source.mean(0), target.mean(0)
    variance = ((source - mean_x) ** 2).sum() / len(source)
    u, d, vt = np.linalg.svd((target - mean_y).T @ (source - mean_x) / len(source))
    s = np.diag([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ s @ vt
    scale = np.trace(np.diag(d) @ s) / variance
    return scale, rotation, mean_y - scale * rotation @ mean_x


@pytest.mark.parametrize("flat", [False, True])
def test_a_planted_similarity_is_recovered(flat: bool) -> None:
    points = torch.randn(10, 3, dtype=torch.float64)
    points[:, 2] *= 0 if flat else 1  # in a plane, the reflection fits as well and must not be taken
    scale, rotation, translation = planted()
    found = similarity(poses_at(points), poses_at(scale * points @ rotation.T + translation))
    torch.testing.assert_close(found, (scale, rotation, translation))


def test_a_second_implementation_agrees_on_noisy_points_and_on_mirrored_ones() -> None:
    for mirror in (1.0, -1.0):
        source = torch.randn(12, 3, dtype=torch.float64)
        target = source * torch.tensor([1.0, 1.0, mirror]) + 0.3 * torch.randn(12, 3, dtype=torch.float64)
        expected = umeyama_numpy(source.numpy(), target.numpy())
        for ours, theirs in zip(similarity(poses_at(source), poses_at(target)), expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)


def test_without_scale_only_the_rigid_part_is_fitted() -> None:
    points = torch.randn(10, 3, dtype=torch.float64)
    scale, rotation, translation = similarity(poses_at(points), poses_at(3 * points + 1), with_scale=False)
    assert scale == 1
    torch.testing.assert_close(rotation, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(translation, (3 * points + 1).mean(0) - points.mean(0))


def test_coinciding_points_give_a_proper_similarity() -> None:
    scale, rotation, translation = similarity(poses_at(torch.ones(4, 3)), poses_at(torch.zeros(4, 3)))
    assert scale == 1
    se3.check_poses("found", se3.from_rotation_translation(rotation, translation))
    torch.testing.assert_close(rotation @ torch.ones(3).double() + translation, torch.zeros(3).double())


def test_rotation_error_is_the_angle_in_degrees() -> None:
    path = primitives.pan(math.radians(30), 4).c2w
    torch.testing.assert_close(rotation_error_deg(path[0], path), torch.tensor([0.0, 10, 20, 30]))


def test_errors_do_not_see_the_choice_of_world_and_scale() -> None:
    reference = wander()
    errors = trajectory_errors(transform(reference, *planted()), reference)
    assert errors.trans_err < 1e-9 and errors.rot_err < 1e-5
    assert errors.scale == pytest.approx(1 / 2.7)


def test_known_errors_come_out() -> None:
    reference = wander()
    wrong = reference.clone()
    wrong[:, :3, :3] = reference[:, :3, :3] @ se3.exp(torch.tensor([0, 0, 0, 0, 0.1, 0]).double())[:3, :3]
    assert trajectory_errors(wrong, reference).rot_err == pytest.approx(math.degrees(0.1))
    noisy = reference.clone()
    noisy[:, :3, 3] += 0.2 * torch.randn(20, 3, dtype=torch.float64)
    scale, rotation, translation = umeyama_numpy(noisy[:, :3, 3].numpy(), reference[:, :3, 3].numpy())
    aligned = scale * noisy[:, :3, 3].numpy() @ rotation.T + translation
    expected = np.linalg.norm(aligned - reference[:, :3, 3].numpy(), axis=1).mean()
    assert trajectory_errors(noisy, reference).trans_err == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("move", ["dolly", "still", "pan"])
def test_orientations_settle_what_the_centres_of_a_straight_or_standing_path_leave_open(move: str) -> None:
    match move:
        case "dolly":
            reference = primitives.dolly(2.0, 9).c2w
        case "still":
            reference = primitives.hold_still(9).c2w
        case _:
            reference = primitives.pan(1.0, 9).c2w
    scale, rotation, translation = (part.float() for part in planted())
    errors = trajectory_errors(transform(reference, scale, rotation, translation), reference)
    assert errors.trans_err < 1e-5 and errors.rot_err < 1e-3


def test_a_nearly_straight_path_does_not_turn_noise_into_rotation_error() -> None:
    reference = primitives.dolly(2.0, 17).c2w
    estimated = reference.clone()
    estimated[:, :3, 3] += 0.002 * torch.randn(17, 3)
    assert trajectory_errors(estimated, reference).rot_err < 0.5


def test_scale_counts_where_poses_are_metric() -> None:
    reference = primitives.dolly(2.0, 9).c2w
    half = primitives.dolly(1.0, 9).c2w
    assert trajectory_errors(half, reference).trans_err < 1e-6
    errors = trajectory_errors(half, reference, with_scale=False)
    assert errors.scale == 1 and errors.trans_err == pytest.approx(10 / 36)  # mean of |k/8 - 1/2| over k = 0..8


def test_wrong_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "jaxtyping_disable", True)  # as users run it: our own checks must speak
    with pytest.raises(ValueError, match=r"^estimated: expected 4 poses .* got 3"):
        similarity(poses_at(torch.zeros(3, 3)), poses_at(torch.zeros(4, 3)))
    with pytest.raises(ValueError, match=r"^estimated: .*finite"):
        similarity(poses_at(torch.full((3, 3), torch.nan)), poses_at(torch.zeros(3, 3)))
    with pytest.raises(ValueError, match=r"^estimated: "):
        trajectory_errors(torch.zeros(3, 4, 4), torch.eye(4).repeat(3, 1, 1))
