"""Pixels of a scene in depth lie on the true path's epipolar lines, and not on those of a wrong turn, way or lens."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model.curation.films import Film
from model.curation.path_agreement import StepErrors, fundamental_matrix, step_errors
from model.curation.poses import PosesConfig
from model.curation.steps import StepLog, verify_path
from model.curation.truth_films import TruthFilmsConfig, render_truth_films
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.estimators.optical_flow import DISFlow
from model.estimators.sfm import Reconstruction
from model.evaluation.paper.films import read_film
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov, pixel_grid, project, unproject

pytest.importorskip("cv2")
FRAMES, HEIGHT, WIDTH = 5, 120, 160
LENS = intrinsics_from_fov(1.2, HEIGHT, WIDTH)
PATH = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.2, 0.0, 0.1, 0.0, 0.03, 0.0]))
GENERATOR = torch.Generator().manual_seed(0)
TEXTURE = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=GENERATOR)
HILLS = 3 + torch.nn.functional.interpolate(torch.rand(1, 1, 5, 6, generator=GENERATOR) * 3, (HEIGHT, WIDTH))[0, 0]


class PlantedFlow:
    """What the camera on the path makes of hills; the flow back is the way back at every place that is reached."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        step, is_back = divmod(self.calls, 2)
        self.calls += 1
        uv = pixel_grid(HEIGHT, WIDTH)
        seen, _ = project(unproject(uv, HILLS, PATH[step], LENS), PATH[step + 1], LENS)
        moved = (seen - uv) * torch.tensor([WIDTH, HEIGHT])
        if not is_back:
            return moved
        back = torch.zeros(HEIGHT, WIDTH, 2)
        x, y = (seen * torch.tensor([WIDTH, HEIGHT])).long().unbind(dim=-1)
        inside = (x >= 1) & (y >= 1) & (x < WIDTH - 1) & (y < HEIGHT - 1)
        for right in (-1, 0, 1):
            for down in (-1, 0, 1):
                back[y[inside] + down, x[inside] + right] = -moved[inside]
        return back


def solved(c2w: torch.Tensor = PATH, lens: torch.Tensor = LENS) -> Reconstruction:
    none = torch.zeros(0, dtype=torch.long)
    return Reconstruction(
        registered=torch.ones(FRAMES, dtype=torch.bool),
        c2w=c2w,
        intrinsics=lens,
        points=torch.zeros(0, 3),
        frame_of=none,
        point_of=none,
        pixels=torch.zeros(0, 2),
        reprojection_error=0.0,
    )


def errors_of(found: Reconstruction, everything_moves: bool = False) -> StepErrors:
    """Of the epipolar geometry alone: there are no points to compare with the flow."""
    frames, moving = TEXTURE.expand(FRAMES, -1, -1, -1), torch.full((FRAMES, HEIGHT, WIDTH), everything_moves)
    errors = step_errors(frames, moving, found, PlantedFlow(), 0.0)
    return dataclasses.replace(errors, flow_distance=torch.zeros(FRAMES))


def excess_of(found: Reconstruction, everything_moves: bool = False) -> torch.Tensor:
    return errors_of(found, everything_moves).epipolar_excess


def test_the_fundamental_matrix_puts_every_point_on_its_line() -> None:
    uv = torch.rand(50, 2, generator=torch.Generator().manual_seed(3))
    points = unproject(uv, torch.linspace(2, 9, 50), PATH[0], LENS)
    size = torch.tensor([WIDTH, HEIGHT])
    before, after = (
        torch.cat((project(points, PATH[frame], LENS)[0] * size - 0.5, torch.ones(50, 1)), dim=-1).double().numpy()
        for frame in (0, 2)
    )
    matrix = fundamental_matrix(se3.relative(PATH[2], PATH[0]), LENS, HEIGHT, WIDTH)
    lines = before @ matrix.T
    distance = np.abs((lines * after).sum(axis=-1)) / np.linalg.norm(lines[:, :2], axis=-1)
    assert distance.max() < 1e-3  # pixels, float32 projections


def test_the_true_path_leaves_no_pixel_off_its_line() -> None:
    errors = errors_of(solved())
    assert float(errors.epipolar_excess.max()) < 0.01 and errors.rejection(PosesConfig()) == ""


def test_the_true_path_of_a_film_below_a_smooth_sky_leaves_hardly_a_pixel_off(tmp_path: Path) -> None:
    config = TruthFilmsConfig(num_films=1, first_seed=HELD_OUT_SEED + 8, num_latents=4)  # an arc: its sky moves, too
    ((name, truth),) = render_truth_films(tmp_path, config).items()
    film = Film(name, tmp_path / "films" / f"{name}.mp4")
    frames = read_film(film, None, 100).frames
    all_known = torch.ones(len(frames), dtype=torch.bool)
    found = dataclasses.replace(solved(), registered=all_known, c2w=truth.c2w, intrinsics=truth.intrinsics)
    excess = step_errors(frames, truth.moving, found, DISFlow(), 0.0).epipolar_excess
    assert name.endswith("arc_left") and float(excess.max()) < 0.03


def test_a_wrong_turn_is_found_at_both_its_steps_and_named() -> None:
    wrong = PATH.clone()
    wrong[2] = wrong[2] @ se3.exp(torch.tensor([0.0, 0.0, 0.0, 0.1, 0.0, 0.0]))
    errors = errors_of(solved(wrong))
    assert (errors.epipolar_excess > 0.1).nonzero()[:, 0].tolist() == [2, 3]
    assert "2 steps of the path leave pixels off their epipolar lines" in errors.rejection(
        PosesConfig(max_epipolar_excess=0.1)
    )


def test_a_step_in_another_direction_is_found() -> None:
    wrong = PATH.clone()
    wrong[3:] = se3.exp(torch.tensor([0.0, 0.3, 0.0, 0.0, 0.0, 0.0])) @ wrong[3:]
    assert (excess_of(solved(wrong)) > 0.1).nonzero()[:, 0].tolist() == [3]


def test_a_lens_that_is_half_as_wide_is_found() -> None:
    excess = excess_of(solved(lens=intrinsics_from_fov(math.radians(30), HEIGHT, WIDTH)))
    assert float(excess.max()) > 0.1


def test_what_moves_and_frames_without_a_pose_are_left_out() -> None:
    wrong = PATH.clone()
    wrong[2] = wrong[2] @ se3.exp(torch.tensor([0.0, 0.0, 0.0, 0.1, 0.0, 0.0]))
    assert float(excess_of(solved(wrong), everything_moves=True).max()) == 0
    only = dataclasses.replace(solved(wrong), registered=torch.tensor([True, True, False, False, False]))
    assert float(excess_of(only).max()) < 0.01


def test_a_path_that_turns_a_little_too_much_at_every_step_is_found() -> None:
    slowly = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.0, 0.0, 0.0, 0.0, 0.015, 0.0]))
    errors = errors_of(solved(PATH @ slowly))
    assert not errors.jumps(PosesConfig()).any()
    assert errors.inconsistent_steps(PosesConfig()).tolist() == [False, True, True, True, True]
    assert "the steps to frames 1 to 4 leave pixels off" in errors.rejection(PosesConfig())


def test_a_drift_is_not_interpolated_as_single_outliers_are() -> None:
    slowly = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.0, 0.0, 0.0, 0.0, 0.015, 0.0]))
    config = PosesConfig(max_flow_distance=math.inf, min_observations=0)  # there are no points
    frames, nothing = TEXTURE.expand(FRAMES, -1, -1, -1), torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    log = StepLog("poses")
    found, off, rejection = verify_path(frames, nothing, solved(PATH @ slowly), PlantedFlow(), config, log)
    assert found.registered.all() and off.sum() == 4 and "leave pixels off" in rejection
    assert log.numbers["poses.outliers"] == 0 and log.numbers["poses.mean_epipolar_excess"] > 0.05


def test_a_drift_whose_single_steps_pass_is_found_at_its_five_steps_and_named() -> None:
    excess = torch.tensor([0.0, 0.02, 0.01, 0.07, 0.09, 0.08, 0.09, 0.07, 0.0, 0.02, 0.01, 0.0])
    errors = drift(excess, torch.arange(1, 12))
    config = PosesConfig(max_epipolar_excess=0.1, max_mean_epipolar_excess=0.075)
    assert not errors.jumps(config).any()
    assert errors.inconsistent_steps(config).nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7]
    assert "the steps to frames 3 to 7 leave pixels off their epipolar lines: 8.0 % on average" in errors.rejection(
        config
    )
    assert errors.rejection(PosesConfig(max_epipolar_excess=0.1, max_mean_epipolar_excess=0.085)) == ""


def test_frames_without_a_pose_do_not_hide_a_drift() -> None:
    excess = torch.tensor([0.0, 0.09, 0.0, 0.08, 0.0, 0.08, 0.0, 0.08, 0.0, 0.08])
    errors = drift(excess, torch.arange(1, 10, 2))
    assert errors.inconsistent_steps(PosesConfig()).nonzero()[:, 0].tolist() == [1, 3, 5, 7, 9]


def test_one_jump_does_not_make_its_neighbours_a_drift() -> None:
    errors = drift(torch.tensor([0.0, 0.01, 0.01, 0.9, 0.01, 0.01, 0.01]), torch.arange(1, 7))
    assert errors.inconsistent_steps(PosesConfig()).nonzero()[:, 0].tolist() == [3]


def test_a_path_of_fewer_than_five_steps_is_one_window() -> None:
    assert "frames 1 to 2" in drift(torch.tensor([0.0, 0.08, 0.09]), torch.arange(1, 3)).rejection(PosesConfig())
    assert drift(torch.zeros(3), torch.zeros(0, dtype=torch.long)).rejection(PosesConfig()) == ""


def drift(excess: torch.Tensor, ends: torch.Tensor) -> StepErrors:
    return StepErrors(torch.zeros(len(excess)), excess, ends)
