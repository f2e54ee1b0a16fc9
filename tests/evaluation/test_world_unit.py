"""The length of a world's unit: a world whose camera really moves 2.5 times as far as it is told."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model.estimators.metric_depth import GivenDepth
from model.estimators.sfm import ColmapSfM, Reconstruction
from model.evaluation.world_unit import estimate_unit, unit_of
from model.geometry import se3
from model.geometry.camera import project
from model.geometry.trajectory import frame_poses
from model.world.protocol import WorldSpec, WorldState
from model.world.synthetic_world import SyntheticWorld

FACTOR, SFM_UNIT = 2.5, 0.3
INTRINSICS = torch.tensor([0.6, 0.9, 0.5, 0.5])
HEIGHT, WIDTH = 48, 72


def points_of(c2w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points before the cameras: the points, and who sees which of them where."""
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([6, 4, 4]) - torch.tensor(
        [3, 2, -3]
    )
    uv, depth = project(points[None], c2w[:, None], INTRINSICS)
    seen = (uv > 0.01).all(dim=-1) & (uv < 0.99).all(dim=-1) & (depth > 0.5)
    frame_of, point_of = seen.nonzero(as_tuple=True)
    return points, frame_of, point_of, uv[seen] * torch.tensor([WIDTH, HEIGHT])


class TrueDepth:
    """Metric depth at the pixels of the points, in frames that bear their number; elsewhere nothing is known."""

    def __init__(self, c2w: Tensor) -> None:
        self.points, self.frame_of, self.point_of, self.pixels = points_of(c2w)
        self.c2w = c2w

    def __call__(self, frames: Tensor) -> Tensor:
        frame = int(frames[0, 0, 0])
        rows = self.frame_of == frame
        _, depth = project(self.points[self.point_of[rows]], self.c2w[frame], INTRINSICS)
        metres = torch.zeros(HEIGHT, WIDTH)
        x, y = self.pixels[rows].long().unbind(-1)
        metres[y, x] = depth
        return metres


def reconstruction(c2w: Tensor) -> Reconstruction:
    """A perfect one in a world and a unit of its own."""
    points, frame_of, point_of, pixels = points_of(c2w)
    other = se3.exp(torch.tensor([1.0, 2.0, 3.0, 0.4, -0.3, 0.2]))
    found = other @ c2w
    found[:, :3, 3] *= SFM_UNIT
    return Reconstruction(
        registered=torch.ones(len(c2w), dtype=torch.bool),
        c2w=found,
        intrinsics=INTRINSICS,
        points=SFM_UNIT * (points @ other[:3, :3].T + other[:3, 3]),
        frame_of=frame_of,
        point_of=point_of,
        pixels=pixels,
        reprojection_error=0.0,
    )


def numbered(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, HEIGHT, WIDTH, 3)


class FarWorld:
    """A world that takes a metre for 2.5; it shows the numbers of its frames."""

    spec = WorldSpec(height=HEIGHT, width=WIDTH, intrinsics=(0.6, 0.9, 0.5, 0.5), poses_per_clip=4)

    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, Tensor]:
        state, _ = SyntheticWorld().start(seeds)
        state.intrinsics = INTRINSICS[None]
        return state, numbered(1)[None]

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, Tensor]:
        return state, numbered(17)[None, 1:]


def really(commanded: Tensor) -> Tensor:
    moved = commanded.clone()
    moved[..., :3, 3] *= FACTOR
    return moved


def test_the_factor_of_a_known_world_is_found() -> None:
    told: list[Tensor] = []

    def sfm(frames: Tensor, masks: Tensor | None, intrinsics: Tensor | None) -> Reconstruction:
        assert masks is None and intrinsics is not None and len(frames) == 17
        return reconstruction(path)

    class Watched(FarWorld):
        def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, Tensor]:
            told.append(c2w)
            return super().extend(state, c2w)

    world, path = Watched(), torch.eye(4).repeat(17, 1, 1)
    with pytest.raises(ValueError, match="expected points whose metric depth agrees"):
        estimate_unit(world, sfm, lambda frames: torch.zeros(HEIGHT, WIDTH))
    path = really(torch.cat([torch.eye(4)[None, None], frame_poses(torch.eye(4)[None], told[0], 4)], dim=1)[0])
    unit = estimate_unit(world, sfm, TrueDepth(path))
    assert unit.factor == pytest.approx(FACTOR, rel=1e-2)
    assert unit.spread < 0.02 and unit.path_error < 1e-3


def test_a_path_that_was_not_followed_is_told() -> None:
    commanded = se3.exp(torch.arange(17)[:, None] * torch.tensor([0.05, 0, 0.02, 0, -0.01, 0]))
    bent = really(commanded)
    bent[:, 1, 3] += torch.linspace(0, math.pi, 17).sin()
    assert unit_of(numbered(17), commanded, reconstruction(bent), TrueDepth(bent)).path_error > 0.1


def test_too_few_poses_are_an_error() -> None:
    commanded = se3.exp(torch.arange(17)[:, None] * torch.tensor([0.05, 0, 0.02, 0, -0.01, 0]))
    found = reconstruction(commanded)
    found.registered[2:] = False
    with pytest.raises(ValueError, match="expected at least 3 with a pose, got 2"):
        unit_of(numbered(17), commanded, found, TrueDepth(commanded))


class FarRooms(SyntheticWorld):
    """Rendered rooms that take a metre for 2.5, and the true depth of what they have shown."""

    def __init__(self) -> None:
        super().__init__(height=144, width=240, style="textured")
        self.shown: list[Tensor] = []
        self.depth: list[Tensor] = []

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, Tensor]:
        after, clip = super().extend(state, really(c2w))
        path = frame_poses(state.c2w, really(c2w), self.spec.frames_per_pose)
        self.shown.append(clip[0])
        self.depth.append(self.clip_depth(after, path)[0])  # of what moves, another moment's
        return after, clip


@pytest.mark.slow
def test_with_colmap_on_pictures() -> None:
    world = FarRooms()
    opened = world.start([2])
    first_depth = world.clip_depth(opened[0], opened[0].c2w[:, None])[0]

    def depth(frames: Tensor) -> Tensor:
        known = GivenDepth(torch.cat([opened[1][0], *world.shown]), torch.cat([first_depth, *world.depth]))
        return known(frames)

    unit = estimate_unit(world, ColmapSfM(), depth, seed=2)
    assert unit.factor == pytest.approx(FACTOR, rel=0.15) and unit.path_error < 0.05
