"""The style `landscape`: new solids, ground and sky; and the scenes of the older styles keep their pixels."""

import dataclasses
import hashlib
import math
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
import torch

import cc2env
from model.data.synthetic.captions import VOCABULARY, caption
from model.data.synthetic.free_space import distance_to_surface
from model.data.synthetic.landscape import NO_SCENERY, Path, Scenery
from model.data.synthetic.renderer import render, render_frames
from model.data.synthetic.scene import Scene, sample_scene
from model.data.synthetic.solids import SCENERY_SIZES, SceneObject, sample_object
from model.data.synthetic.themes import MATERIALS, PALETTE, THEMES
from model.data.synthetic.trajectories import sample_trajectory
from model.evaluation.truth import SceneTruth
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov, pixel_grid, rays, unproject
from model.text.tiny_vocabulary import split_words

HEIGHT, WIDTH = 48, 80
LENS = intrinsics_from_fov(math.radians(75), HEIGHT, WIDTH)
SEEDS = range(60)
# of three frames of 24x40 and the caption, before there was another style
BEFORE = {
    ("soft", 0): "4033d5fda8356673",
    ("soft", 1): "6cd79997a2039383",
    ("soft", 2): "611ab35cc947100b",
    ("soft", 3): "472565f027d2a10f",
    ("soft", 8): "81250a8b999b5e22",
    ("soft", 1_000_000): "faf3a19a1986c69c",
    ("textured", 0): "b47962c370af0894",
    ("textured", 3): "1b2d6b1dbee02bbe",
    ("textured", 1_000_000): "08df63fcab3b1161",
}


@pytest.mark.parametrize(("style", "seed"), BEFORE)
def test_older_styles_keep_their_pixels(style: str, seed: int) -> None:
    scene = sample_scene(seed, style)
    path, _ = sample_trajectory(scene, seed, 3)
    frames = render_frames(scene, path.c2w, intrinsics_from_fov(math.radians(75), 24, 40), torch.arange(3) / 3, 24, 40)
    assert hashlib.sha256(frames.numpy().tobytes() + caption(scene).encode()).hexdigest()[:16] == BEFORE[style, seed]
    assert scene.scenery == NO_SCENERY


def test_every_kind_occurs_and_the_theme_light_and_what_moves_are_those_of_the_soft_scene() -> None:
    scenes = [sample_scene(seed, "landscape") for seed in SEEDS]
    kinds = Counter(item.kind for scene in scenes for item in scene.objects)
    paths = Counter(scene.scenery.path.kind if scene.scenery.path else "" for scene in scenes)
    assert set(SCENERY_SIZES) <= set(kinds) and set(paths) == {"", "road", "river"}
    assert {scene.scenery.clouds > 0 for scene in scenes} == {True, False}
    for scene in scenes:
        soft = sample_scene(scene.seed)
        assert (scene.theme, scene.sun_azimuth) == (soft.theme, soft.sun_azimuth)
        assert [item for item in scene.objects if item.motion] == [item for item in soft.objects if item.motion]
        assert all(item.motion is None for item in scene.objects if item.kind in SCENERY_SIZES)
        assert scene == sample_scene(scene.seed, "landscape")


def test_captions_name_the_new_kinds_in_the_vocabulary_and_stay_short() -> None:
    said: set[str] = set()
    for seed in range(150):
        scene = sample_scene(seed, "landscape")
        words = split_words(caption(scene))
        assert set(words) <= set(VOCABULARY) and len(words) <= 24
        assert (scene.scenery.path is None) == (not {"road", "river"} & set(words))
        assert bool(scene.scenery.clouds) == ("clouds" in words)
        said |= set(words)
    assert {"tree", "trees", "fir", "rock", "house", "road", "river", "clouds", "grey"} <= said


def test_nothing_stands_on_the_road_or_in_another_thing() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed, "landscape")
        path = scene.scenery.path
        assert path is None or all(path.is_clear_of(item) for item in scene.objects)
        scenery = [item for item in scene.objects if item.kind in SCENERY_SIZES]
        for item in scenery:
            for other in scene.objects:
                gap = math.hypot(item.x - other.x, item.z - other.z) - item.swept_radius - other.swept_radius
                assert item is other or gap > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_ends_on_a_surface(seed: int) -> None:
    scene = sample_scene(seed, "landscape")
    c2w, times = sample_trajectory(scene, seed, 3)[0].c2w, torch.arange(3) / 3
    view = render(scene, c2w, LENS, times, HEIGHT, WIDTH, supersample=1)
    depth = torch.where(view.depth.isfinite(), view.depth, 1.0).double()
    points = unproject(pixel_grid(HEIGHT, WIDTH).double(), depth, c2w[:, None, None].double(), LENS.double())
    seconds = times[:, None, None].double().expand_as(view.depth).numpy()
    distance = torch.from_numpy(distance_to_surface(scene, points.numpy(), seconds))
    near = view.depth < 30
    assert near.float().mean() > 0.2
    assert distance[near].abs().quantile(0.999) < 2e-3 and distance[near].abs().max() < 2e-2


def alone(kind: str, **scenery: object) -> Scene:
    """One thing of a kind, five metres ahead."""
    colour = "grey" if kind == "rock" else "green"
    item = dataclasses.replace(sample_object(np.random.default_rng(3), kind, colour), z=5.0)
    return dataclasses.replace(sample_scene(1), objects=(item,), scenery=Scenery(**scenery))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SCENERY_SIZES)
def test_a_march_by_the_distance_meets_what_the_ray_meets(kind: str) -> None:
    scene = alone(kind)
    pose = se3.exp(torch.tensor([0.4, -1.2, 0.5, 0.1, 0.05, 0.1]))[None]
    view = render(scene, pose, LENS, torch.zeros(1), HEIGHT, WIDTH, supersample=1)
    origin, ways = rays(pose.double(), LENS.double(), HEIGHT, WIDTH)
    points = origin.expand_as(ways).clone()
    for _ in range(300):
        step = torch.from_numpy(distance_to_surface(scene, points.numpy(), 0.0))
        points += ways * step.clamp(-1, 3)[..., None]
    met = ((points - origin) @ pose[0, :3, 2].double())[0]
    on_object = (view.objects[0] == 0) & (met < 30)
    assert on_object.float().mean() > 0.01
    error = (met - view.depth[0])[on_object].abs()
    assert error.quantile(0.97) < 5e-3  # a march creeps along silhouettes


def from_above(scene: Scene) -> torch.Tensor:
    """A picture of the ground below ten metres, its top towards +z."""
    down = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, -10.0], [0, -1, 0, 5.0], [0, 0, 0, 1]])
    return render_frames(scene, down[None], LENS, torch.zeros(1), HEIGHT, WIDTH)[0].float()


@pytest.mark.parametrize("azimuth", [-2.5, -0.7, 0.3, 1.4])
def test_shadows_point_away_from_the_sun(azimuth: float) -> None:
    scene = dataclasses.replace(alone("fir", cast_shadows=True), sun_azimuth=azimuth)
    darker = (from_above(dataclasses.replace(scene, objects=())) - from_above(scene)).mean(-1)
    covered = render(scene, _down(), LENS, torch.zeros(1), HEIGHT, WIDTH, supersample=1).objects[0] == 0
    shadow = (darker > 12) & ~torch.nn.functional.max_pool2d(covered[None].float(), 3, 1, 1)[0].bool()
    rows, columns = shadow.nonzero().float().mean(0) - torch.tensor([HEIGHT / 2, WIDTH / 2])
    assert shadow.sum() > 10
    bearing = math.atan2(float(columns), -float(rows))  # from +z towards +x
    assert abs(math.remainder(bearing - azimuth - math.pi, 2 * math.pi)) < 0.35


def _down() -> torch.Tensor:
    return torch.tensor([[[1.0, 0, 0, 0], [0, 0, 1, -10.0], [0, -1, 0, 5.0], [0, 0, 0, 1]]])


def test_a_shadow_has_the_shape_of_what_casts_it_and_does_not_reach_beyond_its_length() -> None:
    pillar = SceneObject(kind="pillar", colour="red", x=0.0, z=5.0, half_width=0.3, half_depth=0.3, height=2.0)
    theme = max(THEMES, key=lambda each: each.sun_elevation)
    bright = dataclasses.replace(alone("fir", cast_shadows=True), objects=(pillar,), sun_azimuth=0.0, theme=theme)
    elevation = theme.sun_elevation
    assert elevation > 0.5  # below it a higher sun casts the shadows
    darker = (from_above(dataclasses.replace(bright, objects=())) - from_above(bright)).mean(-1) > 12
    metres = (torch.arange(HEIGHT) + 0.5 - HEIGHT / 2) * 10 / HEIGHT / float(LENS[1])  # towards -z
    reached = float(metres[darker.any(1)].max())
    assert reached == pytest.approx(2.0 / math.tan(elevation) + 0.3, abs=0.35)


def test_roads_and_clouds_are_seen_and_have_no_depth() -> None:
    path = Path(kind="road", heading=0.8, offset=2.5, width=1.4, bend=0.3, wavelength=10.0, phase=1.0)
    bare = dataclasses.replace(sample_scene(1), objects=())
    rich = dataclasses.replace(bare, scenery=Scenery(path=path, clouds=0.5))
    views = [render(s, s.start_pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH) for s in (bare, rich)]
    assert torch.equal(views[0].depth, views[1].depth)
    changed = (views[0].frames.int() - views[1].frames.int()).abs().amax(-1)[0] > 10
    is_sky = views[0].depth[0].isinf()
    assert changed[is_sky].float().mean() > 0.1 and 0.02 < changed[~is_sky].float().mean() < 0.5
    points = unproject(pixel_grid(HEIGHT, WIDTH), views[1].depth[0].clamp(max=1e3), rich.start_pose, LENS)
    side = torch.from_numpy(path.side(points[..., 0].numpy(), points[..., 2].numpy())).abs()
    near = views[1].depth[0] < 9
    assert changed[near & (side < 0.4)].float().mean() > 0.95 and not changed[near & (side > 1.4)].any()


def test_a_tree_has_wood_below_and_leaves_above_and_a_house_a_door() -> None:
    def colours(kind: str, yaw: float = 0.0) -> torch.Tensor:
        scene = alone(kind)
        clear = dataclasses.replace(scene.theme, fog_distance=1e4, veil=0.0)
        item = dataclasses.replace(scene.objects[0], yaw=yaw, z=3.5)
        scene = dataclasses.replace(scene, theme=clear, objects=(item,))
        view = render(scene, scene.start_pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH)
        return torch.where(view.objects[0, ..., None] == 0, view.frames[0].float() / 255, torch.nan)

    def local_shard(picture: torch.Tensor, name: str) -> float:
        names = ("green", "wood", "slate", "glass")
        hues = torch.tensor([(PALETTE | MATERIALS)[each] for each in names])
        shares = picture / picture.sum(-1, keepdim=True)
        nearest = (shares[..., None, :] - hues / hues.sum(1, keepdim=True)).norm(dim=-1)
        found = nearest[~picture.isnan().any(-1)].argmin(-1) == names.index(name)
        return float(found.float().mean())

    tree = colours("tree")
    rows = (~tree.isnan().any(-1)).any(1).nonzero()[:, 0]
    low, high = tree[rows[-6] :], tree[: rows[len(rows) // 3]]
    assert local_shard(high, "green") > 0.9 and local_shard(low, "wood") > 0.6
    front = colours("house")
    assert all(local_shard(front, name) > 0.02 for name in ("green", "wood", "glass"))


def test_the_backdrop_of_the_measures_keeps_road_and_sky_and_loses_the_houses() -> None:
    seed = next(s for s in SEEDS if (scene := sample_scene(s, "landscape")).scenery.path and scene.scenery.clouds)
    truth = SceneTruth.of_seed(seed, LENS, HEIGHT, WIDTH, style="landscape")
    backdrop = truth.backdrop(torch.eye(4)[None])
    scene = dataclasses.replace(truth.scene, objects=())
    assert torch.equal(backdrop, render_frames(scene, scene.start_pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH))
    plain = dataclasses.replace(scene, scenery=NO_SCENERY)
    assert not torch.equal(backdrop, render_frames(plain, plain.start_pose[None], LENS, torch.zeros(1), HEIGHT, WIDTH))


def test_an_environment_of_the_style_is_made_by_name() -> None:
    env = gym.make(cc2env.ENV_ID, world="synthetic", style="landscape")
    clip, _ = env.reset(seed=3)
    soft, _ = gym.make(cc2env.ENV_ID, world="synthetic").reset(seed=3)
    assert clip.shape == soft.shape and (clip != soft).any()
    with pytest.raises(ValueError, match=r"style: expected one of .*landscape.*got 'rough'"):
        gym.make(cc2env.ENV_ID, world="synthetic", style="rough")
    with pytest.raises(ValueError, match="style: expected none, only world='synthetic' has one"):
        gym.make(cc2env.ENV_ID, world="tiny", style="landscape")
