"""The scene of a flight as points, against the truth of the synthetic world, and in COLMAP's own reader."""

import json
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import cc2env
from agents.fly.record import save_flight
from agents.fly.session import ROOT, Session, open_session
from agents.fly.settings import Settings
from agents.point_cloud import fuse
from agents.reconstruct import ReconstructConfig, reconstruct, session_scene, session_views, write_scene
from cc2env.geometry import trajectory_errors
from model.data.colmap_model import read_colmap_model
from model.data.synthetic.free_space import distance_to_surface
from model.data.synthetic.renderer import render
from model.evaluation.truth import SceneTruth
from model.geometry.camera import pixel_grid, unproject
from model.world.synthetic_world import SyntheticWorld

SETTINGS = Settings(world="synthetic", seed=3)


@pytest.fixture(scope="module")
def flown():
    session, at = open_session(SETTINGS), ROOT
    for key in ("pan_left", "right", "forward_right", "pan_right", "left"):
        at = session.fly(at, key).index
    views = session_views(session, at)
    noise_seed = int(session._world._session.current.state.seed[0])
    yield session, at, views, SceneTruth.of_seed(noise_seed, torch.from_numpy(views[0].intrinsics), 48, 80)
    session.close()


def to_surface(truth, xyz):
    """Metres from points of the episode's frame to the nearest surface that does not move."""
    start = truth.start.numpy()
    return np.abs(distance_to_surface(truth.resting, (xyz @ start[:3, :3].T + start[:3, 3]).astype(float), 0.0))


def surface_points(truth, views):
    """What cameras beside the flown ones see of the resting scene within five metres; none of them was flown."""
    beside = torch.from_numpy(np.stack([view.c2w for view in views[2::4]]))
    beside[:, :3, 3] += 0.1
    depth = render(truth.resting, truth.start @ beside, truth.intrinsics, torch.zeros(len(beside)), 48, 80, 1).depth
    points = unproject(pixel_grid(48, 80), depth.clamp(max=5), beside[:, None, None], truth.intrinsics)
    return points[depth < 5].numpy()


def test_a_view_at_every_pose_with_the_frame_that_was_seen_there(flown):
    session, at, views, _ = flown
    assert len(views) == 21
    last = session.clips[at]
    assert np.array_equal(views[-1].frame, last.frames[-1])
    assert np.array_equal(views[-1].c2w, last.info["achieved_c2w"][-1])


def test_the_depth_of_the_synthetic_world_is_the_truth_also_of_what_moves(flown):
    _, _, views, truth = flown
    poses = torch.from_numpy(np.stack([view.c2w for view in views]))
    depth = truth.depth(poses, torch.arange(len(views)) / 3)  # a pose each third of a second
    for view, expected in zip(views, depth.numpy(), strict=True):
        assert np.allclose(view.depth, expected, rtol=1e-4)


def test_the_points_are_the_scene(flown):
    """Chamfer distance (mean distance to the truth and back) and completeness at 0.1 m."""
    _, _, views, truth = flown
    cloud = fuse(views)
    off = to_surface(truth, cloud.xyz)
    back, _ = cKDTree(cloud.xyz).query(surface_points(truth, views))
    print(f"{len(cloud.xyz)} points, Chamfer {off.mean() + back.mean():.3f} m, complete {(back < 0.1).mean():.3f}")
    assert off.mean() + back.mean() < 0.08
    assert (back < 0.1).mean() > 0.95
    assert np.median(off) < 1e-3 and (off < 0.1).mean() > 0.95


def test_agreement_takes_out_wrong_depth(flown):
    _, _, views, truth = flown
    rng = np.random.default_rng(0)
    wrong = [replace(view, depth=view.depth * rng.choice([1, 1, 1, 0.7, 1.3], view.depth.shape)) for view in views]
    wrong = [replace(view, depth=view.depth.astype(np.float32)) for view in wrong]
    everything, agreed = (fuse(wrong, min_views=count, tolerance=0.04) for count in (0, 3))
    assert to_surface(truth, agreed.xyz).mean() < to_surface(truth, everything.xyz).mean() / 2


def test_points_of_one_view_need_another(flown):
    _, _, views, _ = flown
    assert len(fuse(views[:1]).xyz) == 0
    for wrong in ({"tolerance": 0}, {"min_views": -1}, {"cell": 0}, {"most_depth": float("nan")}):
        with pytest.raises(ValueError, match="expected"):
            fuse(views, **wrong)
    with pytest.raises(ValueError, match="expected"):
        fuse([])


READ = """
import zlib, json, sys, numpy, pycolmap
model = pycolmap.Reconstruction(sys.argv[1] + "/sparse/0")
off = [
    numpy.abs(image.project_point(model.points3D[seen.point3D_id].xyz) - seen.xy).max()
    for image in model.images.values() for seen in image.get_observation_points2D()
]
centres = [image.projection_center().tolist() for _, image in sorted(model.images.items())]
sizes = [(camera.width, camera.height, camera.model.name) for camera in model.cameras.values()]
cloud = pycolmap.Reconstruction()
cloud.import_PLY(sys.argv[1] + "/points.ply")
print(json.dumps([
    model.num_reg_images(), model.num_points3D(), len(off), max(off), centres, sizes, cloud.num_points3D(),
    model.compute_mean_track_length(), sorted(cloud.points3D.items())[0][1].xyz.tolist()
]))
"""


@pytest.mark.slow
def test_colmap_reads_the_model_and_the_ply_of_a_saved_flight(flown, tmp_path):
    session, at, views, _ = flown
    folder = reconstruct(ReconstructConfig(run=str(save_flight(tmp_path, session, at, SETTINGS))))
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images, points, seen, off, centres, sizes, in_ply, track, first = json.loads(done.stdout.splitlines()[-1])
    assert images == 21 and points == in_ply == len(fuse(views).xyz) and track > 3 and seen > 3 * points
    assert off < 0.01  # pixels
    assert np.allclose(centres, [view.c2w[:3, 3] for view in views], atol=1e-4)
    assert np.allclose(first, fuse(views).xyz[0], atol=1e-5)
    assert sizes == [[80, 48, "PINHOLE"]]
    ours = read_colmap_model(folder / "sparse" / "0")
    assert np.allclose(ours.camera.c2w, np.stack([view.c2w for view in views]), atol=1e-5)
    assert {path.name for path in (folder / "images").iterdir()} == set(ours.names)


def test_a_learned_world_without_a_depth_head_says_so(random_world, tmp_path):
    session = open_session(Settings(world=str(random_world.save(tmp_path / "world")), seed=1))
    clip = session.fly(ROOT, "left")
    with pytest.raises(ValueError, match="train a depth head"):
        session.depth(clip.index)


@pytest.fixture(scope="module")
def flown_large():
    world = SyntheticWorld(height=240, width=400, style="textured")
    session, at = Session(gym.make(cc2env.ENV_ID, world=world)), ROOT
    session.reset(3)
    for key in ("right", "forward_right", "left"):
        at = session.fly(at, key).index
    yield session, at
    session.close()


@pytest.mark.slow
def test_structure_from_motion_finds_cameras_and_points_in_larger_frames(flown_large, tmp_path):
    session, at = flown_large
    placed, points = session_scene(session, at, ReconstructConfig(method="sfm"))
    flown = np.stack([view.c2w for view in session_views(session, at, has_depth=False)])
    errors = trajectory_errors(torch.from_numpy(np.stack([view.c2w for view in placed])), torch.from_numpy(flown))
    assert len(placed) == 13 and errors.rot_err < 1 and errors.trans_err < 0.03
    assert abs(errors.scale - 1) < 1e-3  # in metres already
    seed = int(session._world._session.current.state.seed[0])
    truth = SceneTruth.of_seed(seed, torch.from_numpy(placed[0].intrinsics), 240, 400, style="textured")
    off = to_surface(truth, points.xyz)
    print(f"{len(points.xyz)} points, {errors}, off {np.median(off):.3f} m, within 0.1 m {(off < 0.1).mean():.2f}")
    assert len(points.xyz) > 300 and np.median(off) < 0.03 and (off < 0.1).mean() > 0.8
    assert min(map(len, points.tracks)) >= 3
    write_scene(tmp_path, placed, points)
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images, count, _, pixels, *_ = json.loads(done.stdout.splitlines()[-1])
    assert (images, count) == (13, len(points.xyz)) and pixels < 2


@pytest.mark.slow
def test_frames_without_enough_to_see_are_one_line(flown):
    session, at, _, _ = flown
    with pytest.raises(ValueError, match=r"method: .*21 of 48x80.*take a world of larger frames"):
        session_scene(session, at, ReconstructConfig(method="sfm"))
    with pytest.raises(ValueError, match="method: expected one of"):
        reconstruct(ReconstructConfig(run="anywhere", method="guess"))


@pytest.mark.slow
def test_the_shipped_world_sees_depth_at_every_pose():
    session = open_session(Settings(seed=3))
    clip = session.fly(ROOT, "right")
    first, depth = session.depth(ROOT), session.depth(clip.index)
    assert depth.shape == first.shape == (4, 24, 40) and (first == first[:1]).all()
    assert (depth > 0.2).all() and 0.2 < np.isfinite(depth).mean() <= 1
    # the ground near the camera is nearer than what stands in the middle of the picture
    assert np.median(depth[:, -2:]) < np.median(depth[:, 10:14])
    cloud = fuse(session_views(session, clip.index), tolerance=0.1)
    assert len(cloud.xyz) > 100
