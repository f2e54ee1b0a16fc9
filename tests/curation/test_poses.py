"""Reconstructions are kept or left out for the reason that was planted; gaps are filled on the screw."""

import dataclasses

import pytest
import torch

from model.curation.poses import PosesConfig, fill_gaps, longest_gap, pose_rejection
from model.estimators.sfm import Reconstruction
from model.geometry import se3

FRAMES = 12


def screw() -> torch.Tensor:
    """A camera that goes and turns at a constant twist, so that any two of its poses determine those between."""
    return se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.1, 0.0, 0.05, 0.0, 0.15, 0.02]))


def reconstruction(missing: tuple[int, ...] = (), seen: int = 30, error: float = 0.4) -> Reconstruction:
    registered = torch.ones(FRAMES, dtype=torch.bool)
    registered[list(missing)] = False
    c2w = torch.where(registered[:, None, None], screw(), torch.eye(4))
    frame_of = registered.nonzero()[:, 0].repeat_interleave(seen)
    return Reconstruction(
        registered=registered,
        c2w=c2w,
        intrinsics=torch.tensor([0.7, 0.9, 0.5, 0.5]),
        points=torch.rand(seen, 3) + torch.tensor([0.0, 0.0, 3.0]),
        frame_of=frame_of,
        point_of=torch.arange(seen).repeat(int(registered.sum())),
        pixels=torch.rand(len(frame_of), 2),
        reprojection_error=error,
    )


@pytest.mark.parametrize(
    ("solved", "reason"),
    [
        (reconstruction(), ""),
        (reconstruction(missing=(3, 4)), ""),
        (reconstruction(missing=(2, 5, 7)), "9 of 12 frames have a pose"),
        (reconstruction(seen=19), "sees 19 points"),
        (reconstruction(error=1.6), "1.60 pixels off"),
        (reconstruction(error=float("nan")), "pixels off"),
        (reconstruction(missing=(0,)), "the first or the last frame"),
        (reconstruction(missing=(11,)), "the first or the last frame"),
        (reconstruction(missing=tuple(range(12))), "0 of 12"),
    ],
)
def test_a_reconstruction_is_left_out_for_what_it_lacks(solved: Reconstruction, reason: str) -> None:
    found = pose_rejection(solved, PosesConfig())
    assert (reason in found) if reason else found == ""


def test_a_long_gap_is_not_filled() -> None:
    config = PosesConfig(min_registered=0.5, max_gap=2)
    assert pose_rejection(reconstruction(missing=(3, 4, 7, 8)), config) == ""
    assert "3 successive frames" in pose_rejection(reconstruction(missing=(3, 4, 5)), config)
    assert longest_gap(torch.tensor([True, False, False, True, False])) == 2


def test_gaps_are_filled_on_the_screw_between_their_ends() -> None:
    solved = reconstruction(missing=(3, 4, 5, 9))
    path = fill_gaps(solved)
    torch.testing.assert_close(path.c2w, screw(), atol=1e-5, rtol=0)
    se3.check_poses("filled", path.c2w)
    assert torch.equal(path.c2w[solved.registered], solved.c2w[solved.registered])
    assert path.intrinsics.shape == (FRAMES, 4)


def test_nothing_is_invented_beyond_the_ends() -> None:
    with pytest.raises(ValueError, match="first and the last frame"):
        fill_gaps(dataclasses.replace(reconstruction(), registered=torch.arange(FRAMES) > 0))
