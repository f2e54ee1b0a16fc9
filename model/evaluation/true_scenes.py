"""Scenes whose truth is another world that renders any view, such as a mesh, instead of our renderer."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.evaluation.oracle import OracleScenes
from model.evaluation.truth import StillTruth
from model.evaluation.video_quality import psnr
from model.geometry.clearance import CAMERA_MARGIN
from model.geometry.trajectory import CameraTrajectory
from model.world.protocol import RendersViews, WorldModel, WorldSpec, abilities

_TRIES = 50  # most paths that are tried for each wanted scene
_LOOKS = 4  # least views between two poses in which a wall would be seen
_SAME = 50.0  # dB, ours: pictures below it differ by more than rounding

PathOfSeed = Callable[[int], tuple[Float[Tensor, "p 4 4"], str]]  # poses from the identity, and the kind of motion


def film_true_scenes(
    true_world: WorldModel, spec: WorldSpec, path_of: PathOfSeed, first_seed: int, num_scenes: int
) -> tuple[OracleScenes, list[StillTruth]]:
    """Films episodes of `true_world` through the lens and at the rate of another world; returns what is known of each.

    A path on which the camera comes within 0.35 m of something in view, as when it flies through a wall, is left out,
    and the next seed is tried.

    Args:
        true_world: Renders views; nothing in it moves.
        spec: Of the world that is measured.
        path_of: The path of a seed.
        first_seed: Of the first episode that is tried.
        num_scenes: Wanted.

    Raises:
        ValueError: The true world has no views, moves, or has another size or lens; or too few paths are free.
    """
    lens = torch.tensor(spec.intrinsics)
    check_true_world(true_world, spec)
    films, paths, kinds = [], [], []
    truths: list[StillTruth] = []
    finer = -(-_LOOKS // spec.frames_per_pose)
    seed = first_seed
    with tqdm(total=num_scenes, desc="filming the truth", unit="scene") as bar:
        while len(truths) < num_scenes:
            if seed - first_seed >= _TRIES * num_scenes:
                raise ValueError(
                    f"truth: expected {num_scenes} paths that keep {CAMERA_MARGIN} m from all that is in view, got "
                    f"{len(truths)} of {seed - first_seed}; fly fewer clips, or take a larger scene"
                )
            poses, kind = path_of(seed)
            path = CameraTrajectory(poses, lens.expand(len(poses), 4)).upsample(spec.frames_per_pose * finer).c2w
            truth = _opened(true_world, seed, lens)
            film = truth.clip(path, torch.zeros(len(path)))
            if float(film.depth.min()) > CAMERA_MARGIN:
                films.append(film.frames[::finer])
                paths.append(poses)
                kinds.append(kind)
                truths.append(truth)
                bar.update()
            seed += 1
    scenes = OracleScenes(
        frames=torch.stack(films),
        poses=torch.stack(paths),
        intrinsics=lens,
        seeds=[truth.seed for truth in truths],
        captions=[""] * num_scenes,
        kinds=kinds,
        fps=spec.fps,
        frames_per_pose=spec.frames_per_pose,
        true_world=true_world,
    )
    return scenes, truths


def check_true_world(true_world: WorldModel, spec: WorldSpec) -> None:
    """Checks that a world can be the truth for one of this specification.

    Raises:
        ValueError: It has no views, another size or lens, or a camera at rest sees a change in its first clip.
    """
    if not isinstance(true_world, RendersViews):
        raise ValueError(
            f"truth: expected a world that renders any view with its depth, got {type(true_world).__name__}; "
            "it needs render_views (cc2env.protocol.RendersViews)"
        )
    own = true_world.spec
    if (own.height, own.width) != (spec.height, spec.width):
        raise ValueError(
            f"truth: expected {spec.height}x{spec.width} pixels, as in the world that is measured, got "
            f"{own.height}x{own.width}; register the truth at that size (cc2env.register_world)"
        )
    lens = torch.tensor(spec.intrinsics)
    if not (_takes_lens(true_world) or torch.allclose(lens, torch.tensor(own.intrinsics), atol=1e-4)):
        raise ValueError(
            f"truth: expected the lens {spec.intrinsics} of the world that is measured, got {own.intrinsics}"
        )
    truth = _opened(true_world, 0, lens)
    rest = torch.eye(4).expand(1, own.poses_per_clip, 4, 4)
    seen = true_world.extend(truth.state, rest)[1][0, -1:]
    if float(psnr(seen, truth.static_frames(torch.eye(4)[None]))) < _SAME:
        raise ValueError(
            "truth: expected a world in which nothing moves, got one that changes before a camera at rest; "
            "only for scenes of our own renderer is the truth of every moment known: leave truth out"
        )


def _takes_lens(world: WorldModel) -> bool:
    return "horizontal_fov_deg" in abilities(world)


def _opened(world: WorldModel, seed: int, lens: Float[Tensor, "4"]) -> StillTruth:
    """An episode of the true world."""
    state, _ = world.start([seed], intrinsics=lens[None] if _takes_lens(world) else None)
    return StillTruth.of_state(world, state)
