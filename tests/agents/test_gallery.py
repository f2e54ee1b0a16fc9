"""The gallery: a film of every move and task, flown as its name says, and a page that shows them all."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from PIL import Image

from agents.gallery import GalleryConfig, along, make_gallery, policy_of, towards
from agents.scripted import MOVES
from cc2env import TASK_IDS
from cc2env.geometry import se3

HIGH = np.tile(np.array([0.6] * 3 + [0.2] * 3, np.float32), (4, 1))


def fly(pose: np.ndarray, twists: np.ndarray) -> np.ndarray:
    moved = torch.from_numpy(pose).double()
    for twist in torch.from_numpy(twists).double():
        moved = moved @ se3.exp(twist)
    return moved.numpy()


@pytest.mark.parametrize(
    ("world", "width", "height"),
    [("synthetic", 80, 48), ("tiny", 80, 48), pytest.param("small", 160, 96, marks=pytest.mark.slow)],
)
def test_films_and_their_page(world: str, width: int, height: int, tmp_path: Path) -> None:
    config = GalleryConfig(
        world=world, out=str(tmp_path), moves=["forward", "pan_left"], tasks=["GoalView"], task_clips=1
    )
    written = make_gallery(config)
    assert [path.name for path in written] == ["forward.gif", "pan_left.gif", "GoalView.gif", "README.md"]
    with Image.open(tmp_path / "forward.gif") as film:
        assert (
            film.size == (width, height) and film.n_frames == 9 and film.info["duration"] == 160
        )  # hundredths of a second, a sixth of one
    with Image.open(tmp_path / "GoalView.gif") as film:
        assert film.size == (2 * width, height)  # the picture to find stands beside it
    page = (tmp_path / "README.md").read_text()
    assert re.findall(r'src="(.+?)"', page) == [path.name for path in written[:3]]
    given = {"moves=[forward,pan_left]", "tasks=[GoalView]", "task_clips=1", f"out={tmp_path}"}
    command = re.search(r"Made by `python -m agents.gallery (.+)`", page)
    assert command and set(shlex.split(command[1])) == given | ({f"world={world}"} if world != "tiny" else set())


def test_every_move_and_task_has_a_policy_within_the_bounds() -> None:
    far = np.eye(4, dtype=np.float32)
    far[:3, 3] = 5
    info = {
        "clip_index": 3,
        "achieved_c2w": np.eye(4, dtype=np.float32)[None],
        "goal_c2w": far,
        "reference_c2w": np.stack([far] * 4),
    }
    for name in [*MOVES, *TASK_IDS]:
        twists = policy_of(name, Box(-HIGH, HIGH)).act(HIGH, info)
        assert twists.shape == (4, 6) and twists.dtype == np.float32 and (np.abs(twists) <= HIGH).all(), name
        assert (twists == 0).all() == (name in ("still", "HoldStill")), name


def test_poses_are_reached() -> None:
    start = se3.exp(torch.tensor([0.3, -0.2, 1.0, 0.1, 0.4, 0.0])).numpy()
    goal = fly(start, np.tile([0.2, 0.0, 0.4, 0.0, 0.1, 0.05], (4, 1)))
    assert np.allclose(fly(start, towards(start, goal, HIGH)), goal, atol=1e-5)
    path = np.stack([fly(start, np.tile([0.1, 0.0, 0.5, 0.0, -0.1, 0.0], (k, 1))) for k in range(1, 5)])
    assert np.allclose(fly(start, along(start, path, HIGH)), path[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"moves": ["hop"]}, r"moves: expected some of .* got \['hop'\]"),
        ({"tasks": ["Sleep"]}, r"tasks: expected some of .* got \['Sleep'\]"),
        ({"every": 0}, "every, task_clips, colours: expected"),
    ],
)
def test_bad_settings_name_themselves(tmp_path: Path, setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make_gallery(GalleryConfig(world="synthetic", out=str(tmp_path), **setting))
