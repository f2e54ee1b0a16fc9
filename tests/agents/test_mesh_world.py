"""A mesh is a world like any other, and a true one: tasks, agents and the search for the camera run on it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import trimesh
from tensordict import TensorDict

import cc2env
from agents.evaluate import EvaluateConfig, evaluate
from agents.mesh_room import make_room
from agents.mesh_world import MeshWorld
from cc2env.testing import check_world
from model.estimators.sfm import ColmapSfM
from model.evaluation.camera_accuracy import measure_camera
from model.evaluation.consistency import measure_revisit
from model.evaluation.fidelity import fidelity_per_clip, find_regions
from model.evaluation.motion import measure_motion
from model.evaluation.oracle import OracleScenes, evaluate_oracle
from model.evaluation.truth import StillTruth
from model.geometry import se3
from model.geometry.alignment import trajectory_errors
from model.geometry.trajectory import CameraTrajectory, frame_poses
from model.world import registry
from model.world.protocol import WorldSpec, WorldState


@pytest.fixture(scope="module")
def world() -> MeshWorld:
    return MeshWorld(height=18, width=30)


def test_it_keeps_the_protocol(world: MeshWorld) -> None:
    check_world(world, other_process=False)


def test_depth_is_metric(world: MeshWorld) -> None:
    """From the middle of a room 3 m high the ceiling is 1.5 m away, and half a metre higher up 1 m."""
    up = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    higher = up.clone()
    higher[1, 3] = -0.5
    depth = world.render_views(world.start([0])[0], torch.stack([up, higher])[None])[1][0]
    assert torch.allclose(depth, torch.tensor([1.5, 1.0])[:, None, None].expand(2, 18, 30), atol=1e-4)


def test_a_folder_with_its_file_is_the_same_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {"mesh": MeshWorld})
    make_room().export(tmp_path / "scene.glb")
    (tmp_path / "world.yaml").write_text("kind: mesh\n")
    clips = [gym.make(cc2env.ENV_ID, world=world).reset(seed=3)[0] for world in ("mesh", str(tmp_path))]
    assert np.abs(clips[0].astype(int) - clips[1]).max() <= 2 and len(np.unique(clips[0])) > 100
    (tmp_path / "scene.glb").unlink()
    with pytest.raises(ValueError, match=r"scene\.glb"):
        gym.make(cc2env.ENV_ID, world=str(tmp_path))


def test_the_search_finds_the_camera_in_it(world: MeshWorld) -> None:
    """To a hundredth of what it was put off by on true frames, and it sees that another path was flown."""
    state = world.start([3])[0]
    twists = torch.tensor([[0.05, 0.0, 0.1, 0.0, 0.05, 0.0], [0.0, 0.0, 0.1, 0.0, -0.05, 0.02]]).repeat(2, 1)
    path = CameraTrajectory.from_twists(torch.eye(4), twists, torch.tensor(world.spec.intrinsics)).c2w[None, 1:]
    frames = world.extend(state, path)[1]
    film = torch.cat([world.start([3])[1], frames], dim=1)
    poses = torch.cat([torch.eye(4)[None, None], frame_poses(state.c2w, path, 4)], dim=1)
    truth = StillTruth.of_state(world, state)
    floor = measure_camera([truth], film, poses, every=8, hide_pose=True).summary()
    assert floor["solved"] == floor["frames"] == 2
    assert floor["rot_err_deg"] < 0.1 and floor["trans_err_m"] < 0.01
    wrong = poses @ se3.exp(torch.tensor([0.2, 0, 0, 0, 0.1, 0]))
    assert measure_camera([truth], film, wrong, every=8).summary()["trans_err_m"] > 0.15


class HoldsThePicture:
    """Repeats the picture it was given."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec

    def start(
        self, seeds: list[int], prompts: object = None, images: Any = None, intrinsics: Any = None
    ) -> tuple[WorldState, torch.Tensor]:
        eye, number = torch.eye(4).repeat(len(seeds), 1, 1), torch.tensor(seeds)
        memory = TensorDict({"picture": images}, [len(seeds)])
        state = WorldState(eye, intrinsics, number, torch.zeros_like(number), memory, batch_size=[len(seeds)])
        return state, images[:, None]

    def extend(self, state: WorldState, c2w: torch.Tensor) -> tuple[WorldState, torch.Tensor]:
        return state, state.memory["picture"][:, None].repeat(1, 16, 1, 1, 1)


def test_the_metrics_run_on_it(world: MeshWorld) -> None:
    """A world that knows nothing is shown the room and judged: the first picture carried along is far better."""
    state, first = world.start([3])
    lens, twists = torch.tensor(world.spec.intrinsics), torch.tensor([[0.08, 0.0, 0.05, 0.0, 0.1, 0.0]]).repeat(4, 1)
    path = CameraTrajectory.from_twists(torch.eye(4), twists, lens).c2w[None]
    frames = torch.cat([first, world.extend(state, path[:, 1:])[1]], dim=1)
    scenes, truths = OracleScenes(frames, path, lens, [3], [""], ["room"]), [StillTruth.of_state(world, state)]
    holding = HoldsThePicture(world.spec)
    psnr = evaluate_oracle(holding, None, scenes, truths=truths).psnr
    assert torch.equal(psnr["generated"], psnr["hold"]) and (psnr["carried"] > psnr["hold"] + 3).all()
    assert (psnr["time_stopped"] > 60).all()
    regions = find_regions(truths, scenes.frame_poses(), 16)
    assert 0.02 < float(regions.revealed[:, -1].float().mean()) < 0.9 and not regions.moving.any()
    assert fidelity_per_clip(frames, frames, regions, 16)["psnr_seen"][0] > 60
    visit = measure_revisit(holding, scenes, truths, path, 1).summary(1)
    assert visit["psnr_returned"] == visit["psnr_turning_point"] and visit["scenes_without_static_pixels"] == 0
    assert measure_motion(truths, frames, scenes.frame_poses(), 16).summary()["ratio"] is None


@pytest.mark.slow
def test_structure_from_motion_finds_its_cameras_in_larger_pictures() -> None:
    room = MeshWorld(height=240, width=320)
    state, first = room.start([3])
    twists = torch.tensor([-0.24, 0.0, 0.04, 0.0, 0.06, 0.0]).expand(4, 6)
    lens = torch.tensor(room.spec.intrinsics)
    path = CameraTrajectory.from_twists(torch.eye(4), twists, lens).c2w[None, 1:]
    film = torch.cat([first, room.extend(state, path)[1]], dim=1)[0]
    found = ColmapSfM()(film, None, lens)
    poses = torch.cat([torch.eye(4)[None, None], frame_poses(state.c2w, path, 4)], dim=1)[0]
    errors = trajectory_errors(found.c2w[found.registered], poses[found.registered])
    assert found.registered.all() and errors.rot_err < 1 and errors.trans_err < 0.02


@pytest.mark.slow
def test_agents_fly_all_tasks_in_it(world: MeshWorld, tmp_path: Path) -> None:
    tasks = list(cc2env.TASK_IDS)
    config = EvaluateConfig(
        tasks=tasks,
        agents=["random", "scripted", "planner"],
        worlds=["room"],
        num_seeds=1,
        out=str(tmp_path),
        num_clips=dict.fromkeys(tasks, 2),
        scripts=dict.fromkeys(tasks, "forward pan_left"),
        progress=False,
    )
    table = (evaluate(config, {"room": world}) / "table.md").read_text()
    assert all(task in table for task in tasks)


def test_the_room_is_closed() -> None:
    room = make_room()
    assert isinstance(room, trimesh.Trimesh) and room.bounds.tolist() == [[-4, -1.5, -3], [4, 1.5, 3]]
