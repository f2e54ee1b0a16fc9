"""COLMAP in its own process: what it says of films that cannot be solved, and how well it solves one that can.

The whole way from a film with hidden poses to metres is in `tests/curation/test_hidden_poses.py`.
"""

import sys
from pathlib import Path

import pytest
import torch

from model.data.synthetic.renderer import RenderedClip, render
from model.data.synthetic.scene import sample_scene
from model.estimators import sfm
from model.estimators.sfm import ColmapSfM, ReconstructionFailed, StructureFromMotion
from model.geometry import se3
from model.geometry.alignment import rotation_error_deg, trajectory_errors
from model.geometry.camera import intrinsics_from_fov, project

pytest.importorskip("pycolmap")
HEIGHT, WIDTH = 120, 160
LENS = intrinsics_from_fov(1.3, HEIGHT, WIDTH)


def film(frames: int, turn: float = -0.012) -> tuple[RenderedClip, torch.Tensor]:
    scene = sample_scene(5, style="textured")
    twists = torch.arange(frames)[:, None] * torch.tensor([0.14, 0.0, 0.08, 0.0, turn, 0.0])
    c2w = scene.start_pose @ se3.exp(twists)
    return render(scene, c2w, LENS, torch.arange(frames) / 12, HEIGHT, WIDTH), c2w


@pytest.mark.slow
def test_a_film_is_solved_its_sparse_depth_is_the_renderers_and_the_same_again() -> None:
    clip, c2w = film(7)
    estimator = ColmapSfM(num_threads=1)
    assert isinstance(estimator, StructureFromMotion)
    solved = estimator(clip.frames, clip.moving_mask, LENS)
    assert solved.registered.all() and int(solved.num_observations.min()) >= 20
    assert solved.reprojection_error < 1
    torch.testing.assert_close(solved.intrinsics, LENS)  # a known lens is kept
    assert solved.lens_deviation == 0
    errors = trajectory_errors(solved.c2w, c2w)
    assert errors.trans_err < 0.01  # of a path of 1 m
    # relative to the first, because a nearly straight path does not determine the roll about it
    turned, expected = se3.relative(solved.c2w[:1], solved.c2w), se3.relative(c2w[:1], c2w)
    assert float(rotation_error_deg(turned, expected).max()) < 1
    for frame in (0, 6):
        pixels, depth = solved.sparse_depth(frame)
        assert depth.shape == (int(solved.num_observations[frame]),)
        seen = clip.depth[frame, pixels[:, 1].long(), pixels[:, 0].long()]
        ratio = (seen / depth)[torch.isfinite(seen)].median()
        assert float(ratio) == pytest.approx(errors.scale, rel=0.1)  # small pictures
        # the observations are those of the points: the two halves of the table fit each other
        rows = solved.frame_of == frame
        uv, _ = project(solved.points[solved.point_of[rows]], solved.c2w[frame], solved.intrinsics)
        assert (uv * torch.tensor([WIDTH, HEIGHT]) - pixels).norm(dim=-1).mean() < 1
    again = estimator(clip.frames, clip.moving_mask, LENS)
    assert torch.equal(again.c2w, solved.c2w) and torch.equal(again.points, solved.points)


@pytest.mark.slow
def test_a_straight_path_leaves_the_lens_open_and_a_turning_one_does_not() -> None:
    deviations, errors = [], []
    for turn in (0.0, -0.06):
        clip, _ = film(7, turn)
        solved = ColmapSfM(num_threads=1)(clip.frames, clip.moving_mask, None)
        deviations.append(solved.lens_deviation)
        errors.append(abs(float(solved.intrinsics[0] / LENS[0]) - 1))
    assert deviations[0] > 0.15 and errors[0] > 0.1  # any lens explains the straight film
    assert 0 < deviations[1] < 0.05 and errors[1] < 0.05


def test_masks_are_honoured_to_the_point_of_nothing_left() -> None:
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with pytest.raises(ReconstructionFailed, match="no model: 0 keypoints, 0 pairs"):
        ColmapSfM(num_threads=1)(frames, torch.ones(2, 64, 64, dtype=torch.bool), None)
    with pytest.raises(ReconstructionFailed, match=r"no model: [1-9]\d* keypoints, 0 pairs"):
        ColmapSfM(num_threads=1)(frames, torch.zeros(2, 64, 64, dtype=torch.bool), None)


def test_a_process_that_dies_or_hangs_costs_one_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    monkeypatch.setattr(sfm, "_WORKER", worker)
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    worker.write_text("import os; print('out of memory', flush=True); os.abort()")
    with pytest.raises(ReconstructionFailed, match="COLMAP ended with code -6: out of memory"):
        ColmapSfM()(frames, None, None)
    worker.write_text("import time; time.sleep(600)")
    with pytest.raises(ReconstructionFailed, match=r"not done after 0\.2 s"):
        ColmapSfM(timeout=0.2)(frames, None, None)


def test_a_missing_colmap_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pycolmap", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'cameractrlworld\[curation\]'"):
        ColmapSfM()(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), None, None)
