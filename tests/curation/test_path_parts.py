"""A frame that is put elsewhere is interpolated; two pieces that are glued together are no outlier, nor is an end."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from model.curation.path_parts import outlier_frames, path_parts, without_frames
from model.curation.poses import PosesConfig, fill_gaps
from model.curation.steps import ClipRejected, StepLog, StepsConfig, Tools, solve_path, verify_path
from model.estimators.optical_flow import DISFlow
from model.estimators.sfm import Reconstruction, ReconstructionFailed
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov, pixel_grid, rays, unproject

pytest.importorskip("cv2")
FRAMES, HEIGHT, WIDTH, WALL = 12, 120, 160, 4.0
LENS = intrinsics_from_fov(math.radians(70), HEIGHT, WIDTH)
PATH = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.08, 0.0, 0.05, 0.0, 0.01, 0.0]))
# a wall has no epipolar geometry of its own
WALL_CONFIG = PosesConfig(max_epipolar_excess=1.0, max_mean_epipolar_excess=1.0)
JUMP = se3.exp(torch.tensor([0.5, 0.0, 0.0, 0.0, 0.6, 0.0]))


def pictures() -> torch.Tensor:
    """What the camera on the path sees of a wall with a texture at z = 4."""
    noise = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    origin, direction = rays(PATH, LENS, HEIGHT, WIDTH)
    hit = origin + direction * ((WALL - origin[..., 2:]) / direction[..., 2:])
    seen = torch.nn.functional.grid_sample(noise.expand(FRAMES, -1, -1, -1), hit[..., :2] / 5, align_corners=False)
    return (seen * 255).to(torch.uint8).movedim(1, -1).contiguous()


def solved(wrong: list[int]) -> Reconstruction:
    """Points on the wall; the frames in `wrong` are put elsewhere with points of their own, so that all fit."""
    uv = pixel_grid(6, 6).reshape(-1, 2)
    slope = unproject(uv, torch.ones(len(uv)), PATH[:, None], LENS)[..., 2] - PATH[:, None, 2, 3]
    points = unproject(uv, (WALL - PATH[:, 2, 3])[:, None] / slope, PATH[:, None], LENS)
    c2w = PATH.clone()
    c2w[wrong] = JUMP @ PATH[wrong]
    points[wrong] = points[wrong] @ JUMP[:3, :3].T + JUMP[:3, 3]
    return Reconstruction(
        registered=torch.ones(FRAMES, dtype=torch.bool),
        c2w=c2w,
        intrinsics=LENS,
        points=points.reshape(-1, 3),
        frame_of=torch.arange(FRAMES).repeat_interleave(len(uv)),
        point_of=torch.arange(FRAMES * len(uv)),
        pixels=(uv * torch.tensor([WIDTH, HEIGHT])).repeat(FRAMES, 1),
        reprojection_error=0.0,
    )


def checked(wrong: list[int], config: PosesConfig | None = None) -> tuple[Reconstruction, str, StepLog]:
    log, nothing = StepLog(step="poses"), torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    found, _, rejection = verify_path(pictures(), nothing, solved(wrong), DISFlow(), config or WALL_CONFIG, log)
    return found, rejection, log


@pytest.mark.parametrize("wrong", [[], [5], [5, 6], [3, 8]], ids=str)
def test_few_frames_that_are_put_elsewhere_are_interpolated(wrong: list[int]) -> None:
    found, rejection, log = checked(wrong)
    assert (~found.registered).nonzero()[:, 0].tolist() == wrong and log.numbers["poses.outliers"] == len(wrong)
    assert rejection == ""
    torch.testing.assert_close(fill_gaps(found).c2w, PATH, atol=1e-4, rtol=0)


@pytest.mark.parametrize("wrong", [[5, 6, 7], list(range(6, FRAMES)), [0], [FRAMES - 1]], ids=str)
def test_longer_pieces_and_ends_that_are_put_elsewhere_are_no_outliers(wrong: list[int]) -> None:
    assert "do not agree with the flow" in checked(wrong)[1]


def test_too_many_outliers_are_not_interpolated() -> None:
    assert "6 steps of the path do not agree with the flow" in checked([1, 5, 9])[1]


def test_no_frame_is_left_out_if_none_may_be() -> None:
    assert "do not agree with the flow" in checked([5], dataclasses.replace(WALL_CONFIG, max_outliers=0))[1]


class GluedSfM:
    """Finds the wall, but puts the last frames elsewhere where it sees all of them; a part comes out `turned`.

    A part has a lens of its own, sure to `deviation`; it `fails` if it is to.
    """

    def __init__(
        self, wrong: list[int], turned: float = 0.0, lens: float = 1.0, deviation: float = 0.0, fails: bool = False
    ) -> None:
        self.wrong, self.turned, self.lens, self.lengths = wrong, turned, lens, [0][:0]
        self.deviation, self.fails = deviation, fails

    def __call__(
        self, frames: torch.Tensor, masks: torch.Tensor | None, intrinsics: torch.Tensor | None
    ) -> Reconstruction:
        self.lengths.append(len(frames))
        found, count = solved(self.wrong if len(frames) == FRAMES else []), len(frames)
        if count == FRAMES:
            return found
        if self.fails:
            raise ReconstructionFailed("no model")
        found = without_frames(found, list(range(count, FRAMES)))
        turn = se3.exp(torch.arange(count)[:, None] * torch.tensor([0.0, 0.0, 0.0, 0.0, self.turned, 0.0]))
        longer = torch.tensor([1.0, 1.0, self.lens])  # a longer lens sees a deeper scene the same
        c2w = found.c2w[:count] @ turn
        c2w[:, :3, 3] *= longer
        return dataclasses.replace(
            found,
            registered=found.registered[:count],
            c2w=c2w,
            intrinsics=LENS * torch.tensor([self.lens, self.lens, 1.0, 1.0]),
            points=found.points * longer,
            lens_deviation=self.deviation,
        )


def solve(
    sfm: GluedSfM,
    min_frames: int,
    check_halves: bool = False,
    max_flow_distance: float = 2.0,
    other_sfm: GluedSfM | None = None,
) -> tuple[slice, Reconstruction]:
    log, nothing = StepLog(step="poses"), torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    poses = dataclasses.replace(WALL_CONFIG, max_flow_distance=max_flow_distance)
    config = StepsConfig(poses=poses, check_halves=check_halves)
    tools = Tools(flow=DISFlow(), sfm=sfm, other_sfm=other_sfm)
    return solve_path(pictures(), nothing, None, tools, config, log, min_frames)


def test_the_longest_part_that_the_pictures_bear_out_is_solved_again_and_kept() -> None:
    part, found = solve(sfm := GluedSfM([8, 9, 10, 11]), min_frames=8)
    assert part == slice(0, 8) and sfm.lengths == [FRAMES, 8]
    torch.testing.assert_close(found.c2w, PATH[:8])
    with pytest.raises(ClipRejected, match="do not agree with the flow"):
        solve(GluedSfM([8, 9, 10, 11]), min_frames=9)


def test_the_other_mapper_is_asked_only_where_the_pictures_refute_the_first() -> None:
    wrong = [8, 9, 10, 11]
    part, found = solve(GluedSfM(wrong), min_frames=9, other_sfm=(second := GluedSfM([])))
    assert part == slice(0, FRAMES) and second.lengths == [FRAMES]
    torch.testing.assert_close(found.c2w, PATH)
    solve(GluedSfM([]), min_frames=9, other_sfm=(unused := GluedSfM([])))
    assert unused.lengths == []
    with pytest.raises(ClipRejected, match="do not agree with the flow"):
        solve(GluedSfM(wrong), min_frames=9, other_sfm=GluedSfM(wrong))


@pytest.mark.parametrize("again", [{"turned": 0.02}, {"lens": 1.07}], ids=["turn", "lens"])
def test_a_part_whose_two_solutions_differ_is_not_kept(again: dict[str, Any]) -> None:
    with pytest.raises(ClipRejected, match=r"frames 0 to 7, solved apart, differ"):
        solve(GluedSfM([8, 9, 10, 11], **again), min_frames=8)


def test_a_clip_whose_path_is_verified_is_solved_once() -> None:
    part, _ = solve(sfm := GluedSfM([]), min_frames=8)
    assert part == slice(0, FRAMES) and sfm.lengths == [FRAMES]


def test_a_clip_whose_halves_agree_is_kept_whole() -> None:
    part, _ = solve(sfm := GluedSfM([], lens=1.07), min_frames=8, check_halves=True)
    assert part == slice(0, FRAMES) and sfm.lengths == [FRAMES, FRAMES // 2, FRAMES // 2]


@pytest.mark.parametrize(
    ("half", "reason"),
    [({"lens": 1.15}, r"length by 15 %, turns by 0.0"), ({"turned": 0.02}, r"length by 0 %, turns by 2.9 degrees")],
    ids=["lens", "turn"],
)
def test_a_clip_that_a_half_contradicts_is_rejected(half: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClipRejected, match=rf"frames 0 to 5, solved apart, differ: focal {reason}"):
        solve(GluedSfM([], **half), min_frames=8, check_halves=True, max_flow_distance=1000.0)


@pytest.mark.parametrize(
    "half",
    [{"lens": 1.15, "deviation": 0.03}, {"turned": 0.02}, {"fails": True}],
    ids=["open lens", "flow", "no model"],
)
def test_a_half_that_fails_a_check_of_its_own_contradicts_nothing(half: dict[str, Any]) -> None:
    assert solve(GluedSfM([], **half), min_frames=8, check_halves=True)[0] == slice(0, FRAMES)


def test_parts_end_at_steps_that_are_off_and_at_long_gaps() -> None:
    known = torch.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1, 1], dtype=torch.bool)
    off = torch.zeros(10, dtype=torch.bool)
    assert path_parts(known, off, 2) == [[0, 1, 2, 4, 5, 8, 9]]
    assert path_parts(known, off, 1) == [[0, 1, 2, 4, 5], [8, 9]]
    off[4] = True
    assert (parts := path_parts(known, off, 1)) == [[0, 1, 2], [4, 5], [8, 9]]
    assert outlier_frames(parts, 2) == [4, 5] and outlier_frames(parts, 1) == []
    assert path_parts(~known & known, off, 1) == []


def test_frames_that_are_left_out_keep_no_pose_and_no_observation() -> None:
    found = without_frames(solved([5]), [5])
    assert torch.equal(found.c2w[5], torch.eye(4)) and found.num_observations.tolist() == [36] * 5 + [0] + [36] * 6
    assert len(found.point_of) == len(found.pixels) == len(found.frame_of)
