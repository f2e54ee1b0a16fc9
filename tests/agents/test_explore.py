"""From a command line to a folder with a film and its numbers."""

import importlib
import json
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from agents.explore import ExploreConfig, _new_folder, explore
from cc2env.geometry import CameraTrajectory, read_trajectory, write_npy, write_realestate10k

OUTPUTS = {"tour.mp4", "tour.gif", "contact_sheet.png", "trajectory.png", "poses.txt", "episode.json"}


def run(*arguments, cwd):
    command = [sys.executable, "-m", "agents.explore", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def count_frames(film):
    return imageio_ffmpeg.count_frames_and_secs(str(film))[0]


def path(num_poses, step):
    twists = torch.tensor([0.0, 0.0, step, 0.0, 0.05, 0.0]).expand(num_poses - 1, 6)
    return CameraTrajectory.from_twists(torch.eye(4), twists, torch.tensor([0.65, 1.09, 0.5, 0.5]))


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    out = tmp_path_factory.mktemp("explore") / "flight"
    done = run("world=synthetic", "num_clips=2", "seed=3", f"out={out}", cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_tour_leaves_a_whole_folder_and_no_litter(toured):
    out, done = toured
    assert {file.name for file in out.iterdir()} == OUTPUTS
    assert [file.name for file in out.parent.iterdir()] == ["flight"]
    assert f"written: {out}" in done.stdout and "frames per second" in done.stdout
    assert "flying" in done.stderr  # the progress bar


def test_the_film_has_every_frame_and_the_pictures_are_pictures(toured):
    out, _ = toured
    assert count_frames(out / "tour.mp4") == 33
    assert Image.open(out / "tour.gif").n_frames > 20  # equal neighbours are stored once
    assert Image.open(out / "contact_sheet.png").size[0] > 1000
    assert min(Image.open(out / "trajectory.png").size) > 500


def test_the_numbers_are_all_there(toured):
    out, _ = toured
    episode = json.loads((out / "episode.json").read_text())
    assert (episode["seed"], episode["world"], episode["prompt"], episode["num_clips"]) == (3, "synthetic", "", 2)
    assert episode["prompts"] == ["", ""]
    assert np.array(episode["actions"]).shape == (2, 4, 6) and np.array(episode["poses"]).shape == (9, 4, 4)
    assert len(episode["timings"]["step_seconds"]) == 2 and episode["timings"]["frames_per_second"] > 0
    poses = read_trajectory(out / "poses.txt").c2w
    assert np.allclose(poses, episode["poses"], atol=1e-5)


def test_the_poses_it_leaves_fly_the_same_path_again(toured):
    out, _ = toured
    again = explore(
        ExploreConfig(
            world="synthetic", seed=3, trajectory=str(out / "poses.txt"), out=str(out.parent / "again"), progress=False
        )
    )
    first, second = (json.loads((folder / "episode.json").read_text()) for folder in (out, again))
    assert np.allclose(first["poses"], second["poses"], atol=1e-5)
    assert np.allclose(first["actions"], second["actions"], atol=1e-5)


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_a_trajectory_file_drives_the_camera(tmp_path, suffix, capsys):
    given = path(6, 0.25)
    write = write_realestate10k if suffix == ".txt" else write_npy
    write(tmp_path / f"path{suffix}", given)
    config = ExploreConfig(
        world="synthetic", trajectory=str(tmp_path / f"path{suffix}"), out=str(tmp_path / "out"), progress=False
    )
    poses = json.loads((explore(config) / "episode.json").read_text())["poses"]
    assert len(poses) == 9 and np.allclose(poses[:6], given.c2w, atol=1e-4) and np.allclose(poses[8], poses[5])
    assert "resampled" not in capsys.readouterr().out


def poses_flown(tmp_path, trajectory, **settings):
    config = ExploreConfig(
        world="synthetic",
        trajectory=str(trajectory),
        out=str(tmp_path / "out"),
        progress=False,
        num_clips=1,
        **settings,
    )
    return np.array(json.loads((explore(config) / "episode.json").read_text())["poses"])


def test_a_path_too_fast_is_flown_more_slowly_and_a_line_says_so(tmp_path, capsys):
    write_realestate10k(tmp_path / "fast.txt", path(3, 1.0))
    poses_flown(tmp_path, tmp_path / "fast.txt")
    assert "resampled to 2 times as many poses, so it is flown 2 times as slowly" in capsys.readouterr().out


def test_a_text_is_flown_by_its_timestamps_and_an_array_by_fps(tmp_path, capsys):
    dense = path(17, 0.05)
    write_realestate10k(tmp_path / "dense.txt", dense, timestamps=[round(1e6 * row / 12) for row in range(17)])
    write_npy(tmp_path / "dense.npy", dense)
    every_fourth = dense.c2w[::4].numpy()
    assert np.allclose(poses_flown(tmp_path, tmp_path / "dense.txt"), every_fourth, atol=1e-5)
    assert "17 rows in 1.33 s, by their times 5 poses, 0.33 s apart" in capsys.readouterr().out
    assert np.allclose(poses_flown(tmp_path, tmp_path / "dense.npy", fps=12.0), every_fourth, atol=1e-5)
    for rows in (poses_flown(tmp_path, tmp_path / "dense.txt", fps=3.0), poses_flown(tmp_path, tmp_path / "dense.npy")):
        assert np.allclose(rows, dense.c2w[:5], atol=1e-5)
    half = poses_flown(tmp_path, tmp_path / "dense.txt", stride=2)
    assert np.allclose(half, dense.c2w[:9:2], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trajectory=nowhere.txt"], "error: nowhere.txt: expected a readable trajectory file"),
        (["trajectory=notes.md"], "error: notes.md: expected a trajectory file ending in .txt or .npy"),
        (["world=nowhere"], "error: world: expected 'tiny', 'small', 'synthetic'"),
        (["image=notes.md"], "error: image: expected a readable picture file, got notes.md"),
        (["agent.script=sideways"], "error: script: expected a tour"),
        (["agent.kind=clever"], "error: agent.kind: expected scripted or random, got 'clever'"),
        (["num_clips=0"], "error: num_clips: expected at least 1, got 0"),
        (["stride=2"], "error: stride: expected 1 without a trajectory, got 2"),
        (["fps=12"], "error: fps: expected None without a trajectory, got 12"),
        (["trajectory=a.txt", "fps=12", "stride=2"], "error: stride: expected 1 beside fps, got 2"),
        (["trajectory=a.npy", "fps=0"], "error: fps: expected a positive number of rows a second, got 0"),
        (["scale=0.1"], "error: scale: expected 1 without a trajectory, got 0.1"),
        (["out=notes.md"], "error: out: expected a folder, got notes.md"),
        (["prompt=dusk, {mist} and a=b"], "error: prompt: expected none"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, monkeypatch, capsys, arguments, message):
    """In this process, for speed: `main` reads the command line just as `python -m` would."""
    (tmp_path / "notes.md").write_text("no picture, no path")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explore", "world=synthetic", *arguments])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module("agents.explore").main()
    error = str(stopped.value.code)
    assert error.startswith(message) and "\n" not in error
    assert [file.name for file in tmp_path.iterdir()] == ["notes.md"]


def test_a_path_in_other_units_is_not_flown_for_hours(tmp_path):
    write_npy(tmp_path / "millimetres.npy", path(9, 100.0))
    config = ExploreConfig(world="synthetic", trajectory=str(tmp_path / "millimetres.npy"), out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"^trajectory: expected a path of at most 200 clips.*scale="):
        explore(config)
    assert not (tmp_path / "out").exists()


def test_help_names_every_option(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for option in ("world", "trajectory", "image", "prompt", "seed", "num_clips", "out", "fps", "stride", "scale"):
        assert f"{option}=" in done.stdout
    from agents.scripted import MOVES

    assert all(move in done.stdout for move in MOVES)
    assert not list(tmp_path.iterdir())


def test_two_explorations_in_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: _new_folder(), range(8)))
    assert len(set(folders)) == 8


def test_console_scripts_import():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, function = pyproject["project"]["scripts"]["cc2-explore"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
