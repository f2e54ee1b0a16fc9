"""A path that the pictures bear out passes; a jump, a seam or another unit of length does not, and is named.

The pictures are those of a textured wall, so that the true flow is known to be found. Every planted mistake keeps each
observation on its point, as structure from motion leaves it: only the pictures show it.
"""

import dataclasses

import pytest
import torch

from model.curation.path_agreement import StepErrors, step_errors
from model.curation.poses import PosesConfig
from model.estimators.optical_flow import DISFlow, OpticalFlow
from model.estimators.sfm import Reconstruction
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov, project, rays, unproject

pytest.importorskip("cv2")
FRAMES, HEIGHT, WIDTH, WALL, POINTS = 8, 120, 160, 4.0, 50
LENS = intrinsics_from_fov(1.2, HEIGHT, WIDTH)
PATH = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.08, 0.0, 0.05, 0.0, 0.01, 0.0]))
LIMITS = PosesConfig(max_flow_distance=2.0, min_flow_share=0.25, max_epipolar_excess=1.0, max_mean_epipolar_excess=1.0)


def pictures() -> torch.Tensor:
    """What the camera on the path sees of a wall with a texture at z = 4."""
    noise = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    origin, direction = rays(PATH, LENS, HEIGHT, WIDTH)
    hit = origin + direction * ((WALL - origin[..., 2:]) / direction[..., 2:])
    seen = torch.nn.functional.grid_sample(noise.expand(FRAMES, -1, -1, -1), hit[..., :2] / 5, align_corners=False)
    return (seen * 255).to(torch.uint8).movedim(1, -1).contiguous()


def solved(move: torch.Tensor, registered: torch.Tensor | None = None) -> Reconstruction:
    """Frame i and what it sees of the wall, moved together by `move[i]`; points of its own, so that they fit."""
    uv = 0.15 + 0.7 * torch.rand(FRAMES, POINTS, 2, generator=torch.Generator().manual_seed(1))
    distance = (WALL - PATH[:, 2, 3])[:, None] / _slope(uv)
    points = unproject(uv, distance, PATH[:, None], LENS)
    points = (move[:, None, :3, :3] @ points[..., None])[..., 0] + move[:, None, :3, 3]
    centre = (move[:, :3, :3] @ PATH[:, :3, 3:])[..., 0] + move[:, :3, 3]
    size = move[:, :3, :3].det().abs().pow(1 / 3)[:, None, None]
    known = torch.ones(FRAMES, dtype=torch.bool) if registered is None else registered
    rows = known.repeat_interleave(POINTS)
    return Reconstruction(
        registered=known,
        c2w=se3.from_rotation_translation(move[:, :3, :3] / size @ PATH[:, :3, :3], centre),
        intrinsics=LENS,
        points=points.reshape(-1, 3),
        frame_of=torch.arange(FRAMES).repeat_interleave(POINTS)[rows],
        point_of=torch.arange(FRAMES * POINTS)[rows],
        pixels=(uv * torch.tensor([WIDTH, HEIGHT])).reshape(-1, 2)[rows],
        reprojection_error=0.0,
    )


def _slope(uv: torch.Tensor) -> torch.Tensor:
    """World z of the ray at depth 1."""
    return unproject(uv, torch.ones(uv.shape[:-1]), PATH[:, None], LENS)[..., 2] - PATH[:, None, 2, 3]


def still() -> torch.Tensor:
    return torch.eye(4).repeat(FRAMES, 1, 1)


def put_elsewhere(frame: int) -> torch.Tensor:
    move = still()
    move[frame] = se3.exp(torch.tensor([0.5, 0.0, 0.0, 0.0, 0.6, 0.0]))
    return move


def glued(frame: int) -> torch.Tensor:
    """Everything from the frame on moved, as where two pieces meet at a texture that repeats itself."""
    move = still()
    move[frame:] = se3.exp(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    return move


def other_unit(frame: int) -> torch.Tensor:
    """Twice the unit from the frame on."""
    move = still()
    move[frame:, :3] *= 2.0
    return move


def errors_of(frames: torch.Tensor, found: Reconstruction, flow: OpticalFlow | None = None) -> StepErrors:
    nothing = torch.zeros(frames.shape[:3], dtype=torch.bool)
    return step_errors(frames, nothing, found, flow or DISFlow(), LIMITS.min_flow_share)


def test_the_planted_observations_fit_their_points() -> None:
    for move in (still(), put_elsewhere(3), glued(4), other_unit(4)):
        found = solved(move)
        uv, depth = project(found.points[found.point_of], found.c2w[found.frame_of], found.intrinsics)
        torch.testing.assert_close(uv * torch.tensor([WIDTH, HEIGHT]), found.pixels, atol=2e-3, rtol=0)
        assert (depth > 0).all()


def test_the_true_path_agrees_with_the_flow() -> None:
    errors = errors_of(pictures(), solved(still()))
    distance = errors.flow_distance
    assert distance[0] == 0 and float(distance.max()) < 1  # measured 0.2 to 0.4
    assert errors.rejection(LIMITS) == ""


@pytest.mark.parametrize(
    ("move", "steps"), [(put_elsewhere(3), [3, 4]), (glued(4), [4]), (other_unit(4), [4])], ids=["jump", "seam", "unit"]
)
def test_a_step_that_the_pictures_do_not_show_is_found_and_named(move: torch.Tensor, steps: list[int]) -> None:
    errors = errors_of(pictures(), solved(move))
    distance = errors.flow_distance
    assert (distance > LIMITS.max_flow_distance).nonzero()[:, 0].tolist() == steps
    assert f"{len(steps)} steps of the path" in (found := errors.rejection(LIMITS)) and "off the flow" in found


def test_a_frame_without_a_pose_is_stepped_over() -> None:
    registered = torch.arange(FRAMES) != 3
    errors = errors_of(pictures(), solved(put_elsewhere(3), registered))
    distance = errors.flow_distance
    assert distance[3] == 0 and float(distance.max()) < 1


def test_a_step_that_the_flow_cannot_follow_is_not_believed() -> None:
    frames = pictures()
    frames[5] = torch.randint(0, 256, frames[5].shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    errors = errors_of(frames, solved(still()))
    distance = errors.flow_distance
    assert distance.isinf().nonzero()[:, 0].tolist() == [5, 6]
    assert "out of the flow's sight" in errors.rejection(LIMITS)


def test_distances_do_not_depend_on_the_size_of_the_pictures() -> None:
    found = dataclasses.replace(solved(glued(4)), pixels=2 * solved(glued(4)).pixels)
    doubled = pictures().repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    small = errors_of(pictures(), solved(glued(4))).flow_distance
    large = errors_of(doubled, found).flow_distance
    assert float(large[4]) == pytest.approx(float(small[4]), rel=0.05)


def test_the_flow_is_estimated_once_for_each_step_and_direction() -> None:
    frames, pairs = pictures(), []

    class Counting:
        def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            numbers = [
                next(i for i, other in enumerate(frames) if torch.equal(frame, other)) for frame in (first, second)
            ]
            pairs.append(tuple(numbers))
            return DISFlow()(first, second)

    errors_of(frames, solved(still()), Counting())
    assert sorted(pairs) == sorted([(i, i + 1) for i in range(FRAMES - 1)] + [(i + 1, i) for i in range(FRAMES - 1)])
