"""What the renderer says of depth and motion agrees with the geometry and with an independent distance function."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.synthetic.free_space import distance_to_surface
from model.data.synthetic.renderer import RenderedClip, render, render_frames
from model.data.synthetic.scene import Scene, sample_scene, static_scene
from model.data.synthetic.shading import _towards_zenith
from model.data.synthetic.trajectories import sample_trajectory
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov, pixel_grid, project, rays, unproject

HEIGHT, WIDTH = 48, 80
LENS = intrinsics_from_fov(math.radians(75), HEIGHT, WIDTH)


def clip(seed: int, style: str = "soft", num_latents: int = 3) -> tuple[Scene, Tensor, Tensor, RenderedClip]:
    scene = sample_scene(seed, style)
    c2w = sample_trajectory(scene, seed, num_latents)[0].c2w
    times = torch.arange(num_latents) / 3
    return scene, c2w, times, render(scene, c2w, LENS, times, HEIGHT, WIDTH)


def points_of(view: RenderedClip, c2w: Tensor) -> Tensor:
    depth = torch.where(view.depth.isfinite(), view.depth, 1.0)
    grid = pixel_grid(HEIGHT, WIDTH)
    return unproject(grid.double(), depth.double(), c2w[:, None, None].double(), LENS.double())


def test_same_arguments_same_bytes() -> None:
    first, second = clip(3)[3], clip(3)[3]
    assert torch.equal(first.frames, second.frames) and torch.equal(first.depth, second.depth)
    assert torch.equal(first.moving_mask, second.moving_mask)


def test_a_frame_does_not_depend_on_its_clip() -> None:
    scene, c2w, times, whole = clip(4)
    alone = render(scene, c2w[2:], LENS, times[2:], HEIGHT, WIDTH)
    assert torch.equal(whole.frames[2:], alone.frames) and torch.equal(whole.depth[2:], alone.depth)


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_ends_on_a_surface(seed: int) -> None:
    scene, c2w, times, view = clip(seed)
    points, seconds = points_of(view, c2w).numpy(), times[:, None, None].double().expand_as(view.depth).numpy()
    distance = torch.from_numpy(distance_to_surface(scene, points, seconds))
    near = view.depth < 30
    assert near.float().mean() > 0.2
    # float32 rays: the error grows with the depth; near the limb of a sphere it is the square root of the rounding
    assert distance[near].abs().quantile(0.999) < 2e-3
    assert distance[near].abs().max() < 2e-2


@pytest.mark.parametrize("style", ["soft", "textured"])
def test_static_pixels_look_the_same_from_another_view(style: str) -> None:
    scene = static_scene(sample_scene(2, style))
    first = scene.start_pose
    second = first @ se3.exp(torch.tensor([0.25, -0.1, 0.3, 0.03, 0.06, 0.02]))
    c2w = torch.stack([first, second])
    view = render(scene, c2w, LENS, torch.zeros(2), HEIGHT, WIDTH)
    uv, depth = project(points_of(view, c2w)[0].float(), second, LENS)
    depth = depth.reshape(HEIGHT, WIDTH)
    grid = (uv * 2 - 1).reshape(1, HEIGHT, WIDTH, 2)
    colours = torch.nn.functional.grid_sample(view.frames[1:].permute(0, 3, 1, 2).float(), grid, align_corners=False)[0]
    depths = torch.nn.functional.grid_sample(view.depth[None, 1:].clamp(max=1e3), grid, align_corners=False)[0, 0]
    seen = (grid.abs() < 0.97).all(-1)[0] & (view.depth[0] < 12) & ((depths / depth - 1).abs() < 0.03)
    assert seen.float().mean() > 0.2
    error = (colours.permute(1, 2, 0) - view.frames[0].float()).abs().mean(-1)[seen] / 255
    # mirrored sky and halo depend on the view a little, grain on the sampling
    assert error.median() < (0.01 if style == "soft" else 0.03)


@pytest.mark.parametrize("seed", range(5))
def test_only_masked_pixels_change_depth_when_only_time_passes(seed: int) -> None:
    scene = sample_scene(seed)
    c2w = scene.start_pose.expand(4, 4, 4)
    view = render(scene, c2w, LENS, torch.tensor([0.0, 0.4, 1.1, 2.5]), HEIGHT, WIDTH)
    changed = view.depth[1:] != view.depth[:1]
    assert (changed <= (view.moving_mask[1:] | view.moving_mask[:1])).all()
    still = render(static_scene(scene), c2w[:1], LENS, torch.zeros(1), HEIGHT, WIDTH)
    assert torch.equal(still.depth[~view.moving_mask[:1]], view.depth[:1][~view.moving_mask[:1]])
    assert not still.moving_mask.any()


def test_moving_objects_are_seen_to_move() -> None:
    moved = 0
    for seed in range(8):
        scene = sample_scene(seed)
        frames = render_frames(scene, scene.start_pose.expand(2, 4, 4), LENS, torch.tensor([0.0, 1.0]), HEIGHT, WIDTH)
        moved += bool((frames[0].int() - frames[1].int()).abs().max() > 20)
    assert moved >= 6


@pytest.mark.parametrize(("height", "width", "supersample"), [(48, 80, 2), (7, 5, 1), (31, 64, 3), (1, 1, 4)])
def test_any_size(height: int, width: int, supersample: int) -> None:
    scene = sample_scene(0)
    lens = LENS.expand(2, 4)
    view = render(scene, scene.start_pose.expand(2, 4, 4), lens, torch.zeros(2), height, width, supersample)
    assert view.frames.shape == (2, height, width, 3) and view.frames.dtype == torch.uint8
    assert view.depth.shape == view.moving_mask.shape == (2, height, width)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 3.1), (1.5, 0.0, 0.0), (-1.5, 0.0, 0.0), (0.4, 2.0, 1.5)])
def test_any_orientation_keeps_ground_below_and_sky_above(angles: tuple[float, float, float]) -> None:
    scene = sample_scene(6)
    pose = scene.start_pose @ se3.exp(torch.tensor([0.0, 0.0, 0.0, *angles]))
    view = render(scene, pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH)
    upward = rays(pose, LENS, HEIGHT, WIDTH)[1][..., 1] < -1e-4
    objects = render(Scene(**(vars(scene) | {"objects": ()})), pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH)
    assert torch.equal(objects.depth[0].isinf(), upward) or (objects.depth[0].isinf() != upward).sum() <= WIDTH
    assert (view.depth[0] <= objects.depth[0]).all()


def test_a_camera_inside_an_object_or_under_the_ground_still_gets_a_picture() -> None:
    scene = sample_scene(0)
    item = scene.objects[0]
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[0, :3, 3] = torch.tensor([item.x, -item.height / 2, item.z])
    poses[1, :3, 3] = torch.tensor([0.0, 1.0, 0.0])
    view = render(scene, poses, LENS, torch.zeros(2), HEIGHT, WIDTH)
    assert not view.depth.isnan().any()


def test_finer_sampling_converges() -> None:
    scene, c2w, times, coarse = clip(5)
    fine = render_frames(scene, c2w, LENS, times, HEIGHT, WIDTH, supersample=6)
    # the finer filter is narrower, so edges differ a little
    assert ((coarse.frames.float() - fine.float()) / 255).square().mean().sqrt() < 0.03


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"c2w": torch.eye(4)[None] * float("nan")}, "c2w"),
        ({"intrinsics": torch.tensor([0.0, 1.0, 0.5, 0.5])}, "intrinsics"),
        ({"times": torch.tensor([float("inf")])}, "times"),
        ({"height": 0}, "height"),
        ({"supersample": 0}, "supersample"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Tensor | int], name: str) -> None:
    scene = sample_scene(0)
    arguments = {"c2w": scene.start_pose[None], "intrinsics": LENS, "times": torch.zeros(1), "height": 4, "width": 6}
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        render(scene, **(arguments | change))


def test_a_mirrored_sky_has_no_pole_below_the_horizon():
    """A ray whose sine of elevation is exactly -0.30 was 0 / 0 or x / 0, hidden in the picture, loud in the log."""
    scene = sample_scene(0)
    colour = np.zeros((3, 1, 3), np.float32)
    with np.errstate(all="raise"):
        _towards_zenith(scene, colour, np.float32([[-0.30, -0.31, 0.5]]))
    assert np.isfinite(colour).all() and (colour[..., :2] == 0).all() and colour[..., 2].any()
