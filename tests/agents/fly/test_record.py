"""A saved flight is a labelled film, and comes back bit for bit."""

import json
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest

from agents.fly.record import load_flight, save_flight, saved_flights
from agents.fly.replay import replay_flight
from agents.fly.session import ROOT, open_session
from agents.fly.settings import Settings
from cc2env.geometry import read_trajectory

SETTINGS = Settings(world="synthetic", seed=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    session, folder = open_session(SETTINGS), tmp_path_factory.mktemp("run") / "session-1"
    first = session.fly(ROOT, "forward")
    branch = session.fly(first.index, "left")
    branch.was_shown = True
    session.fly(branch.index, "back").was_shown = True
    session.fly(ROOT, "up")  # made ahead and never shown: not saved
    last = session.fly(first.index, "pan_right")
    yield save_flight(folder, session, last.index, SETTINGS), session.path(last.index)
    session.close()


def test_a_saved_flight_is_a_labelled_film(saved):
    folder, way = saved
    assert imageio_ffmpeg.count_frames_and_secs(str(folder / "flight-0000.mp4"))[0] == 33
    poses = read_trajectory(folder / "flight-0000.txt").c2w.numpy()
    assert len(poses) == 33  # one for each frame
    assert np.allclose(poses[4::4], np.concatenate([clip.info["achieved_c2w"] for clip in way[1:]]), atol=1e-5)


def test_it_comes_back_bit_for_bit_and_anything_else_is_noticed(saved, capsys):
    folder, _ = saved
    flight = load_flight(folder)
    assert flight.settings == SETTINGS and flight.moves == [("forward", None), ("pan_right", None)]
    assert flight.branches == [(1, "left", None), (3, "back", None)]
    replay_flight(flight)
    assert "the same bytes: 65 frames" in capsys.readouterr().out
    saved = (folder / "episode.json").read_text()
    for key in ("pan_right", "back"):  # of the flight, of a branch
        (folder / "episode.json").write_text(saved.replace(f'"{key}"', '"pan_left"'))
        with pytest.raises(ValueError, match="same frames"):
            replay_flight(load_flight(folder))
    (folder / "episode.json").write_text(saved)


def test_a_flight_that_was_saved_without_branches_still_loads(saved, tmp_path):
    folder, _ = saved
    numbers = json.loads((folder / "episode.json").read_text())
    del numbers["branches"], numbers["branches_sha256"], numbers["device"]
    (tmp_path / "episode.json").write_text(json.dumps(numbers))
    replay_flight(load_flight(tmp_path))


@pytest.mark.slow
def test_the_saved_command_repeats_it(saved):
    folder, _ = saved
    command = json.loads((folder / "episode.json").read_text())["command"]
    assert command == f"python -m agents.fly replay={folder}"
    done = subprocess.run([sys.executable, *command.split()[1:]], capture_output=True, text=True)
    assert done.returncode == 0 and "the same bytes: 65 frames" in done.stdout, done.stderr


def test_flights_are_numbered_and_listed(saved):
    folder, _ = saved
    assert folder.name == "saved-0000" and saved_flights(folder.parents[1]) == [folder]


def test_the_first_frame_alone_is_no_flight(tmp_path):
    session = open_session(SETTINGS)
    with pytest.raises(ValueError, match="fly first"):
        save_flight(tmp_path, session, ROOT, SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"key_map": "v0"},
        {"keys": ["jump", "left"]},
        {"keys": 3},
        {"prompts": []},
        {"prompts": [1, 2]},
        {"branches": [[3, "left", None]]},
        {"branches": [[-1, "left", None]]},
        {"branches": [[0, "jump", None]]},
        {"branches": [[0, "left"]]},
        {"branches": 3},
        {"world": "/etc"},
        {"seed": "x"},
    ],
)
def test_what_is_no_saved_flight_is_refused(saved, tmp_path, change):
    folder, _ = saved
    numbers = json.loads((folder / "episode.json").read_text()) | change
    (tmp_path / "episode.json").write_text(json.dumps(numbers))
    with pytest.raises(ValueError, match="expected the folder of a saved flight"):
        load_flight(tmp_path, ["synthetic"])
    with pytest.raises(ValueError, match="expected the folder of a saved flight"):
        load_flight(tmp_path / "nothing")


def test_a_prompt_that_changed_in_flight_is_flown_again(random_world, tmp_path):
    settings = Settings(world=str(random_world.save(tmp_path / "world")), seed=1, prompt="red box")
    session = open_session(settings)
    first = session.fly(ROOT, "forward")
    changed, kept = session.fly(first.index, "forward", "blue dome"), session.fly(first.index, "forward", "red box")
    assert not np.array_equal(changed.frames, kept.frames)
    assert (changed.prompt, changed.info["prompt"], kept.prompt) == ("blue dome", "blue dome", None)
    last = session.fly(changed.index, "left")
    assert last.info["prompt"] == "blue dome"
    folder = save_flight(tmp_path / "run", session, last.index, settings)
    assert load_flight(folder).moves == [("forward", None), ("forward", "blue dome"), ("left", None)]
    replay_flight(load_flight(folder))
