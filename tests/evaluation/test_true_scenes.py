"""The oracle with another world as the truth: a room has no error in its own eyes; what cannot be measured is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from agents.mesh_world import MeshWorld
from model.build import OracleConfig
from model.cli.evaluate import run_oracle
from model.evaluation.true_scenes import film_true_scenes
from model.world import registry
from model.world.protocol import WorldSpec, WorldState

SIZE = {"height": 18, "width": 30}


class HoldsThePicture:
    """Repeats the picture it was given; one frame for each of three poses, through a lens of its own."""

    start_arguments = frozenset({"images"})
    spec = WorldSpec(**SIZE, intrinsics=(0.8, 1.3, 0.5, 0.5), fps=7.0, frames_per_clip=3, poses_per_clip=3)

    def start(self, seeds: Any, prompts: None = None, images: Any = None, intrinsics: None = None) -> Any:
        assert prompts is None and intrinsics is None
        eye, number = torch.eye(4).repeat(len(seeds), 1, 1), torch.tensor(seeds)
        lens, memory = torch.tensor(self.spec.intrinsics).repeat(len(seeds), 1), TensorDict({"picture": images})
        return WorldState(eye, lens, number, 0 * number, memory, batch_size=[len(seeds)]), images[:, None]

    def extend(self, state: WorldState, c2w: Tensor) -> Any:
        assert c2w.shape[1] == 3
        return state, state.memory["picture"][:, None].repeat(1, 3, 1, 1, 1)


class Flickers(MeshWorld):
    """A room in which the light changes."""

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, Tensor]:
        after, frames = super().extend(state, c2w)
        return after, frames // 2


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = {"room": lambda: MeshWorld(**SIZE), "larger": MeshWorld, "holds": HoldsThePicture}
    monkeypatch.setattr(registry, "_registered", worlds | {"flickers": lambda: Flickers(**SIZE)})


@pytest.mark.slow
def test_the_truth_has_no_error_in_its_own_eyes(tmp_path: Path) -> None:
    settings = {"camera": True, "camera_every": 8, "kinds": 1, "revisit": 1, "still": 1}
    out = tmp_path / "oracle.json"
    report: Any = run_oracle(OracleConfig(world="room", truth="room", num_scenes=2, out=str(out), **settings))
    summary = report["summary"]
    assert summary["psnr_first_clip"] == summary["psnr_time_stopped"] == summary["psnr_revisit"] == 100
    assert summary["rot_err_deg"] < 1e-3 and summary["trans_err_m"] < 1e-4
    assert 0 < summary["rot_err_floor_deg"] < 0.1 and summary["camera_solved"] == summary["camera_frames"] == 4
    assert summary["psnr_wrong_trajectory"] < summary["psnr_carried"] < 60 and summary["psnr_hold"] < 30
    assert report["kinds"]["left"]["psnr"] == 100 and report["kinds"]["left"]["camera"]["trans_err_m"] < 1e-4
    assert report["still"]["sharpness_ratio"] == [1.0] and report["determinism"]["repeats"]
    assert json.loads(out.read_text())["config"]["truth"] == "room"


def test_a_world_of_other_frames_and_another_lens_is_measured(tmp_path: Path) -> None:
    settings = {"num_scenes": 2, "num_clips": 2, "camera": True, "camera_every": 3}
    report: Any = run_oracle(OracleConfig(world="holds", truth="room", out=str(tmp_path / "o.json"), **settings))
    for scene in report["per_scene"]:
        assert scene["psnr"]["generated"] == scene["psnr"]["hold"] == scene["psnr"]["wrong_trajectory"]
        assert len(scene["psnr"]["carried"]) == 2 and min(scene["psnr"]["carried"]) > max(scene["psnr"]["hold"])
    assert report["summary"]["camera_frames"] == 2 * 2  # of seven frames the third and the sixth


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no views": (
        {"truth": "holds"},
        r"^truth: expected a world that renders any view .* got HoldsThePicture; it needs",
    ),
    "the renderer": ({"truth": "synthetic"}, r"^truth: expected a world that renders any view .* got SyntheticWorld"),
    "another size": ({"truth": "larger"}, r"^truth: expected 18x30 pixels, .* got 48x80; register the truth"),
    "it moves": ({"truth": "flickers"}, r"^truth: expected a world in which nothing moves"),
    "captions": ({"captions": True}, r"^captions: expected none beside truth=room"),
    "a style": ({"style": "soft"}, r"^style: expected none beside truth=room"),
    "objects": ({"objects": True}, r"^objects: expected false beside truth"),
    "a long revisit": ({"revisit": 2}, r"^revisit: expected at most 1 beside truth"),
    "no picture": ({"world": "flickers"}, r"^world: expected one that is shown a scene by its image, got Flickers"),
    "no truth": ({"truth": None}, r"^world: expected 4 frames for each pose.*: evaluate oracle truth=mesh"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_named(case: str, tmp_path: Path) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        run_oracle(
            OracleConfig(**{"world": "holds", "truth": "room", "num_scenes": 1, "out": f"{tmp_path}/o.json"} | settings)
        )


def test_paths_through_walls_are_left_out() -> None:
    """Of every second path the camera leaves the room, which is eight metres long."""
    paths = torch.eye(4).repeat(2, 13, 1, 1)
    paths[1, :, 2, 3] = torch.arange(13) * 0.5
    room, spec = MeshWorld(**SIZE), HoldsThePicture.spec
    scenes, truths = film_true_scenes(room, spec, lambda seed: (paths[seed % 2], "forward"), 1, 2)
    assert scenes.seeds == [truth.seed for truth in truths] == [2, 4] and scenes.frames.shape == (2, 13, 18, 30, 3)
    with pytest.raises(ValueError, match=r"^truth: expected 1 paths that keep 0.35 m .* got 0 of 50"):
        film_true_scenes(room, spec, lambda _: (paths[1], "forward"), 0, 1)
