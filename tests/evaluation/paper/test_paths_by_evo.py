"""evo, by others, finds the same TransErr and RotErr on the same paths, with and without a free scale."""

import copy

import pytest
import torch
from evo.core import metrics
from evo.core.trajectory import PosePath3D

from model.geometry import se3
from model.geometry.alignment import trajectory_errors


def wandering_path(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = 0.2 * torch.randn(24, 6, generator=generator, dtype=torch.float64)
    poses = [torch.eye(4, dtype=torch.float64)]
    for step in se3.exp(steps):
        poses.append(poses[-1] @ step)
    return torch.stack(poses)


def seen_in_another_world(path: torch.Tensor, scale: float) -> torch.Tensor:
    """The path with errors, turned, moved and in another unit of length, as structure from motion gives it."""
    generator = torch.Generator().manual_seed(7)
    errors = 0.03 * torch.randn(len(path), 6, generator=generator, dtype=torch.float64)
    moved = se3.exp(torch.tensor([3.0, -1, 2, 0.4, 1.1, -0.7], dtype=torch.float64)) @ path @ se3.exp(errors)
    moved[:, :3, 3] *= scale
    return moved


def evo_errors(found: torch.Tensor, wanted: torch.Tensor, with_scale: bool) -> tuple[float, float]:
    reference = PosePath3D(poses_se3=list(wanted.numpy()))
    estimate = copy.deepcopy(PosePath3D(poses_se3=list(found.numpy())))
    estimate.align(reference, correct_scale=with_scale)
    means = []
    for relation in (metrics.PoseRelation.translation_part, metrics.PoseRelation.rotation_angle_deg):
        error = metrics.APE(relation)
        error.process_data((reference, estimate))
        means.append(error.get_statistic(metrics.StatisticsType.mean))
    return means[0], means[1]


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_evo_agrees(seed, with_scale):
    wanted = wandering_path(seed)
    found = seen_in_another_world(wanted, scale=0.31 if with_scale else 1.0)
    ours = trajectory_errors(found, wanted, with_scale)
    trans_err, rot_err = evo_errors(found, wanted, with_scale)
    assert ours.trans_err > 0.01 and ours.rot_err > 0.5
    assert ours.trans_err == pytest.approx(trans_err, rel=1e-6)
    assert ours.rot_err == pytest.approx(rot_err, rel=1e-6)
