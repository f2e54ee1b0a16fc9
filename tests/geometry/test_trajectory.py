"""Trajectories: what rebasing, resampling, cutting and joining leave unchanged."""

import pytest
import torch
from jaxtyping import config

from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory


def random_path(num_poses: int = 7) -> CameraTrajectory:
    intrinsics = torch.tensor([0.8, 1.3, 0.5, 0.5]) + 0.1 * torch.rand(num_poses, 4)
    start = se3.exp(torch.randn(6))
    return CameraTrajectory.from_twists(start, 0.5 * torch.randn(num_poses - 1, 6), intrinsics)


def assert_same(a: CameraTrajectory, b: CameraTrajectory) -> None:
    torch.testing.assert_close(a.c2w, b.c2w, rtol=0, atol=5e-6)
    torch.testing.assert_close(a.intrinsics, b.intrinsics)


def test_twists_lead_from_pose_to_pose() -> None:
    path = random_path()
    assert_same(CameraTrajectory.from_twists(path.c2w[0], path.twists(), path.intrinsics), path)
    assert path[:1].twists().shape == (0, 6)


def test_a_long_path_stays_rigid() -> None:
    path = CameraTrajectory.from_twists(torch.eye(4), torch.randn(2000, 6), torch.tensor([0.8, 1.3, 0.5, 0.5]))
    rotation = path.c2w[-1, :3, :3]
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3), rtol=0, atol=1e-6)


def test_rebase_changes_the_world_but_not_the_motion() -> None:
    path = random_path()
    rebased = path.rebase()
    torch.testing.assert_close(rebased.c2w[0], torch.eye(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(rebased.twists(), path.twists(), rtol=0, atol=1e-5)
    assert rebased.path_length() == pytest.approx(path.path_length(), rel=1e-5)
    assert_same(CameraTrajectory(path.c2w[0] @ rebased.c2w, rebased.intrinsics), path)


def test_resample_keeps_both_ends_and_every_pose_it_passes() -> None:
    path = random_path(5)
    for num_poses in (1, 2, 4, 5, 12):
        again = path.resample(num_poses)
        assert len(again) == num_poses
        se3.check_poses("c2w", again.c2w)
        assert torch.equal(again.c2w[0], path.c2w[0])
        if num_poses > 1:
            assert torch.equal(again.c2w[-1], path.c2w[-1])
    assert_same(path.resample(9)[::2], path)
    assert_same(path.resample(5), path)
    assert path.resample(3)[1:2].path_length() == 0
    assert_same(path[:1].resample(3), CameraTrajectory(path.c2w[:1].expand(3, 4, 4), path.intrinsics[:1].expand(3, 4)))
    with pytest.raises(ValueError, match=r"^num_poses: "):
        path.resample(0)


def test_upsample_puts_frames_at_quarters_of_the_geodesic() -> None:
    path = random_path(3)
    frames = path.upsample()
    assert len(frames) == 9
    assert torch.equal(frames.c2w[::4], path.c2w)  # pose k is frame 4k, bit for bit
    for step in range(1, 4):
        expected = se3.interpolate(path.c2w[:-1], path.c2w[1:], step / 4)
        torch.testing.assert_close(frames.c2w[step::4], expected)
    torch.testing.assert_close(4 * frames.twists()[::4], path.twists(), rtol=0, atol=2e-5)


def test_path_length_of_a_square() -> None:
    centres = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    c2w = se3.from_rotation_translation(torch.eye(3).expand(5, 3, 3), centres)
    assert CameraTrajectory(c2w, torch.ones(5, 4)).path_length() == 4


@pytest.mark.parametrize(("c2w", "intrinsics"), [((2, 3, 4), (2, 4)), ((0, 4, 4), (0, 4)), ((2, 4, 4), (4,))])
def test_wrong_shapes_are_named(
    c2w: tuple[int, ...], intrinsics: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "jaxtyping_disable", True)  # as users run it: our own checks must speak
    with pytest.raises(ValueError, match="expected shape"):
        CameraTrajectory(torch.zeros(c2w), torch.zeros(intrinsics))
