"""Free space by estimate: known depth gives known stops, in the world, in from a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import save_component
from model.data.synthetic.free_space import free_fraction
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import static_scene
from model.geometry import se3
from model.geometry.camera import pixel_grid, unproject
from model.geometry.clearance import CAMERA_MARGIN, Distance
from model.geometry.clearance import free_fraction as free_fraction_of_move
from model.text.encoder import TextEncoder
from model.training.latent_set import encoder_fingerprint
from model.vae.latent_depth import LatentDepth, LatentDepthConfig
from model.vae.video_vae import VideoVAE
from model.world.camera_world import CameraWorld
from model.world.config import WorldConfig
from model.world.free_space import SolidCameraWorld, ground_level
from model.world.load import build_text_encoder, load_world
from model.world.protocol import KnowsFreeSpace
from model.world.synthetic_world import SyntheticWorld


class SeesAWall(LatentDepth):
    """Every frame shows a wall across the view, so many metres ahead."""

    metres = 2.0

    def forward(
        self, latents: torch.Tensor, c2w: torch.Tensor, intrinsics: torch.Tensor, has_before: torch.Tensor
    ) -> torch.Tensor:
        return torch.full((len(latents), latents.shape[-2] * 4, latents.shape[-1] * 4), self.metres)


@pytest.fixture
def solid(dit, vae: VideoVAE, config: WorldConfig) -> SolidCameraWorld:
    encoder: TextEncoder = build_text_encoder(config.text_encoder, Path("."))
    head = SeesAWall(LatentDepthConfig(latent_channels=4))
    return SolidCameraWorld(dit, vae, encoder, config.spec(), depth=head, sampler=config.sampler)


def moves(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([rows])


AHEAD, BACK, RIGHT = (0, 0, 0.5, 0, 0, 0), (0, 0, -0.5, 0, 0, 0), (0.5, 0, 0, 0, 0, 0)


def test_a_camera_stops_at_what_its_last_frame_shows(solid: SolidCameraWorld) -> None:
    state, _ = solid.start([1])
    shares = solid.free_fraction(state, moves(AHEAD, AHEAD, AHEAD, AHEAD))
    # to the margin before the wall; between the points of the wall a little nearer
    assert float(0.5 * shares.sum()) == pytest.approx(2 - CAMERA_MARGIN, abs=0.05)
    assert shares[0, :3].tolist() == [1, 1, 1] and shares[0, 3] < 1
    assert (solid.free_fraction(state, moves(BACK, RIGHT, BACK, BACK)) == 1).all()


def test_all_frames_of_the_window_count_and_no_others(solid: SolidCameraWorld) -> None:
    state, _ = solid.start([1])
    assert (solid.depth(state)[0, :-1] == 0).all() and (solid.depth(state)[0, -1] == 2).all()
    around = se3.exp(torch.tensor([0.0, 0, 0, 0, torch.pi / 4, 0])[None])[0]
    poses, pose = [], torch.eye(4)
    for _ in range(4):
        pose = pose @ around
        poses.append(pose)
    state, _ = solid.extend(state, torch.stack(poses)[None])  # it has turned round on the spot
    assert (solid.depth(state) == 2).all()
    for sign in (1, -1):  # the wall ahead is new, the one behind was the first frame's
        four = [(0, 0, 0.5 * sign, 0, 0, 0)] * 4
        assert float(0.5 * solid.free_fraction(state, moves(*four)).sum()) == pytest.approx(2 - CAMERA_MARGIN, abs=0.05)


def test_what_is_far_is_no_surface(solid: SolidCameraWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeesAWall, "metres", 19.0)
    state, _ = solid.start([1])
    assert not len(solid.surfaces(state)[0])
    assert (solid.free_fraction(state, moves(AHEAD, AHEAD)) == 1).all()


def test_the_ground_goes_on_where_it_is_not_seen() -> None:
    rng = np.random.default_rng(0)
    ground = np.stack([rng.uniform(-3, 3, 300), np.full(300, 1.4), rng.uniform(2, 6, 300)], axis=1)
    wall = np.stack([rng.uniform(-3, 3, 300), rng.uniform(-2, 1.4, 300), np.full(300, 4.0)], axis=1)
    assert ground_level(np.concatenate([ground, wall])) == pytest.approx(1.4, abs=0.05)
    assert ground_level(wall * [1, 5, 1]) == np.inf and ground_level(wall[:0]) == np.inf


def test_with_the_true_depth_the_points_of_one_frame_stop_a_camera_where_the_renderer_does() -> None:
    world, metres = SyntheticWorld(), []
    for seed in range(14):
        state, _ = world.start([seed])
        scene, start, lens = static_scene(world.scene(seed)), state.memory["start_c2w"][0], state.intrinsics[0]
        depth = render(scene, start[None], lens, torch.zeros(1), 24, 40, 1).depth[0]
        points = unproject(pixel_grid(24, 40), depth, start, lens)[depth < 7].double().numpy()
        down = 0.2 * (seed % 2)  # every other one descends, and meets the ground
        metres.append(
            (
                flown(
                    start,
                    down,
                    lambda pose, move, scene=scene: free_fraction(scene, pose, move, 0.0, 0.0, CAMERA_MARGIN),
                ),
                flown(start, down, lambda pose, move, points=points: free_fraction_of_move(near(points), pose, move)),
            )
        )
    exact, estimated = np.array(metres).T
    blocked = exact < 4.8
    assert 4 <= blocked.sum() <= 12 and (blocked != (estimated < 4.8)).sum() <= 1
    assert np.abs(exact - estimated)[blocked & (estimated < 4.8)].max() < 0.15  # the spacing of the points


def flown(start: torch.Tensor, down: float, share_of: Callable[[torch.Tensor, torch.Tensor], float]) -> float:
    """Metres that a camera gets ahead, of 4.8."""
    total, pose, move = 0.0, start.double(), torch.tensor([0, down, 0.6, 0, 0, 0], dtype=torch.float64)
    for _ in range(8):
        share = share_of(pose, move)
        total += 0.6 * share
        if share < 1:
            return total
        pose = pose @ se3.exp(move)
    return 4.8


def near(points: np.ndarray) -> Distance:
    squares = (points**2).sum(-1)
    return lambda where, _: np.sqrt(((where**2).sum(-1)[:, None] - 2 * where @ points.T + squares).min(1).clip(0))


def test_a_folder_with_a_head_for_its_latents_is_a_solid_world(folder: Path, vae: VideoVAE, tmp_path: Path) -> None:
    assert not isinstance(load_world(str(folder)), KnowsFreeSpace)
    head = LatentDepth(LatentDepthConfig(latent_channels=4, width=8, num_blocks=1))
    copy = shutil.copytree(folder, tmp_path / "solid")
    save_component(copy / "depth", head, head.config, {"latents": encoder_fingerprint(vae)})
    world = load_world(str(copy))
    assert isinstance(world, SolidCameraWorld) and isinstance(world, KnowsFreeSpace) and not world.free_space_is_exact
    state, _ = world.start([1])
    assert world.free_fraction(state, moves(AHEAD, BACK)).shape == (1, 2)
    assert world.recognises(state) and load_world(str(folder)).recognises(state)
    save_component(copy / "depth", head, head.config, {"latents": "another encoder's"})
    assert type(load_world(str(copy))) is CameraWorld
