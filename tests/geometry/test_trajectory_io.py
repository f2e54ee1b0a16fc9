"""Trajectory files: round trips, a file written by hand, and every way a file can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory
from model.geometry.trajectory_io import read_realestate10k, read_trajectory, write_npy, write_realestate10k

GOOD_LINE = "0 0.9 1.6 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


def random_path(num_poses: int = 5) -> CameraTrajectory:
    twists = 0.5 * torch.randn(num_poses - 1, 6)
    return CameraTrajectory.from_twists(se3.exp(torch.randn(6)), twists, torch.tensor([0.9, 1.6, 0.5, 0.45]))


def test_a_file_written_by_hand_has_the_known_camera(tmp_path: Path) -> None:
    # World-to-camera of a camera at (1, 2, 3), turned 90 degrees to the right (its z is the world's x, its x is -z):
    # R rows are the camera's axes in the world, t = -R c = (3, -2, -1).
    file = tmp_path / "hand.txt"
    file.write_text(
        "https://example.org/watch?v=1\n"
        "33366667 0.9 1.6 0.5 0.45 0.0 0.0  0 0 -1 3  0 1 0 -2  1 0 0 -1\n"
        "66733333 0.9 1.6 0.5 0.45 0.0 0.0  1 0 0 0  0 1 0 0  0 0 1 -2\n"
    )
    contents = read_realestate10k(file)
    assert contents.url == "https://example.org/watch?v=1" and contents.timestamps == (33366667, 66733333)
    expected = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]])
    torch.testing.assert_close(contents.trajectory.c2w[0], expected)
    torch.testing.assert_close(contents.trajectory.c2w[1, :3, 3], torch.tensor([0.0, 0, 2]))
    torch.testing.assert_close(contents.trajectory.intrinsics, torch.tensor([[0.9, 1.6, 0.5, 0.45]]).expand(2, 4))


@pytest.mark.parametrize("url", ["", "https://example.org/watch?v=1"])
def test_realestate10k_round_trip(tmp_path: Path, url: str) -> None:
    path, file = random_path(), tmp_path / "path.txt"
    write_realestate10k(file, path, url, timestamps=[10, 20, 30, 40, 2**40])
    again = read_realestate10k(file)
    assert again.url == url and again.timestamps == (10, 20, 30, 40, 2**40)
    torch.testing.assert_close(again.trajectory.c2w, path.c2w, rtol=0, atol=1e-6)
    assert torch.equal(again.trajectory.intrinsics, path.intrinsics)
    assert [child.name for child in tmp_path.iterdir()] == ["path.txt"]  # no temporary left behind


def test_npy_round_trip_with_four_and_three_rows(tmp_path: Path) -> None:
    path, intrinsics = random_path(), torch.tensor([1.0, 1.5, 0.5, 0.5])
    write_npy(tmp_path / "four.npy", path)
    np.save(tmp_path / "three.npy", path.c2w[:, :3].double().numpy())
    for name in ("four.npy", "three.npy"):
        again = read_trajectory(tmp_path / name, intrinsics)
        assert again.c2w.dtype == torch.float32
        torch.testing.assert_close(again.c2w, path.c2w, rtol=0, atol=1e-6)
        assert torch.equal(again.intrinsics, intrinsics.expand(5, 4))


def test_rounded_rotations_become_exact_ones(tmp_path: Path) -> None:
    rounded = (random_path().c2w * 1000).round() / 1000
    np.save(tmp_path / "rounded.npy", rounded.numpy())
    rotation = read_trajectory(tmp_path / "rounded.npy").c2w[:, :3, :3]
    identity = torch.eye(3).expand(5, 3, 3)
    torch.testing.assert_close(rotation.transpose(-1, -2) @ rotation, identity, rtol=0, atol=1e-6)
    torch.testing.assert_close(rotation, rounded[:, :3, :3], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no pose"),
        ("url\n\n", "no pose"),
        (f"{GOOD_LINE}\n{GOOD_LINE}\n", "URL in line 1"),
        ("url\n1 2 3\n", "line 2: expected 19 numbers .*got 3"),
        (f"url\n{GOOD_LINE}\n{GOOD_LINE.replace('0.9', 'wide')}\n", "line 3: expected 19 numbers, got: .*'wide'"),
        (f"url\n{GOOD_LINE.replace('0.9', 'nan')}\n", "NaN"),
        (f"url\n{GOOD_LINE[:-1]}inf\n", "NaN or infinity"),
        (f"url\n{GOOD_LINE.replace('0.9', '450')}\n", "fractions of the width"),
        (f"url\n{GOOD_LINE.replace('0.5 0 0', '0.5 0.1 0')}\n", "k1 = k2 = 0"),
        (f"url\n{GOOD_LINE.replace('0 0 1 0 0 0', '0 0 2 0 0 0')}\n", r"R\^T R"),
    ],
)
def test_a_wrong_text_file_is_refused_by_name(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "wrong.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"wrong.txt.*expected.*{fault}|wrong.txt.*{fault}"):
        read_trajectory(file)


def broken_arrays() -> dict[str, np.ndarray]:
    eye = np.eye(4, dtype=np.float32)[None].repeat(2, axis=0)
    return {
        r"got \[4, 4\]": eye[0],
        r"got \[2, 4, 3\]": eye[:, :, :3],
        r"got \[0, 4, 4\]": eye[:0],
        "NaN": np.where(eye == 1, np.nan, eye),
        r"R\^T R": eye * 1.2 + (1 - 1.2) * np.diag([0, 0, 0, 1]).astype(np.float32),
        "last row": eye * 2,
        "reflection": eye * np.array([-1, 1, 1, 1], dtype=np.float32),
        "real numbers, got complex64": eye.astype(np.complex64),
        "readable .npy": np.array([object()]),
    }


@pytest.mark.parametrize("fault", broken_arrays())
def test_a_wrong_npy_is_refused_by_name(tmp_path: Path, fault: str) -> None:
    np.save(tmp_path / "wrong.npy", broken_arrays()[fault], allow_pickle=True)
    with pytest.raises(ValueError, match=f"wrong.npy: expected.*{fault}"):
        read_trajectory(tmp_path / "wrong.npy")


@pytest.mark.parametrize("name", ["noise.npy", "noise.txt", "empty.npy", "missing.npy", "missing.txt", "noise.json"])
def test_unreadable_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    for stem, data in (("noise", bytes(range(256))), ("empty", b"")):
        (tmp_path / stem).with_suffix(Path(name).suffix).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name}: expected"):
        read_trajectory(tmp_path / name)


def test_a_truncated_npy_is_refused(tmp_path: Path) -> None:
    write_npy(tmp_path / "cut.npy", random_path())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut.npy: expected a readable"):
        read_trajectory(tmp_path / "cut.npy")


def test_settings_without_effect_or_sense_are_refused(tmp_path: Path) -> None:
    path, file = random_path(), tmp_path / "path.txt"
    with pytest.raises(ValueError, match=r"^timestamps: expected 5"):
        write_realestate10k(file, path, timestamps=[1, 2])
    with pytest.raises(ValueError, match=r"^url: "):
        write_realestate10k(file, path, url="two\nlines")
    assert not file.exists()
    write_realestate10k(file, path)
    assert read_realestate10k(file).timestamps[:2] == (0, 333333)  # 4 frames at 12 a second
    with pytest.raises(ValueError, match=r"^intrinsics: "):
        read_trajectory(file, path.intrinsics[0])


def timed(file: Path, seconds: list[float], path: CameraTrajectory) -> Path:
    write_realestate10k(file, path, timestamps=[round(1e6 * second) for second in seconds])
    return file


def straight(num_poses: int, step: float = 0.1) -> CameraTrajectory:
    twists = torch.tensor([step, 0, 0, 0, 0, 0]).expand(num_poses - 1, 6)
    return CameraTrajectory.from_twists(torch.eye(4), twists, torch.tensor([0.9, 1.6, 0.5, 0.45]))


def test_timestamps_say_where_the_camera_is_when(tmp_path: Path) -> None:
    # 0.1 every tenth of a second, then 0.1 every second
    file = timed(tmp_path / "slows.txt", [7.0, 7.1, 7.2, 8.2, 9.2], straight(5))
    flown = read_trajectory(file, seconds_per_pose=0.1).c2w[:, 0, 3]
    elapsed = 0.1 * torch.arange(23)
    torch.testing.assert_close(flown, torch.where(elapsed < 0.2, elapsed, 0.2 + 0.1 * (elapsed - 0.2)))
    # both ends are there, though 2.2 s are not a multiple of 0.5
    torch.testing.assert_close(
        read_trajectory(file, seconds_per_pose=0.5).c2w[:, 0, 3], torch.tensor([0, 0.23, 0.28, 0.33, 0.38, 0.4])
    )


@pytest.mark.parametrize("fps", [12, 24, 30, 60, 23.976])
def test_rows_at_any_rate_fly_the_same_path_in_the_same_time(fps: float, tmp_path: Path) -> None:
    path = random_path(9)
    times = torch.arange(int(8 / 3 * fps) + 1, dtype=torch.float64) / fps
    index = (3 * times).floor().long()
    dense = path._at(index, (3 * times - index).float())
    flown = read_trajectory(timed(tmp_path / "dense.txt", times.tolist(), dense), seconds_per_pose=1 / 3)
    assert len(flown) == 9
    torch.testing.assert_close(flown.c2w[:8], path.c2w[:8], atol=0.02 if fps == 23.976 else 1e-5, rtol=0)


def test_rounded_timestamps_leave_rows_as_they_are(tmp_path: Path) -> None:
    path = random_path(5)
    dense = path.upsample(4)
    file = timed(tmp_path / "dense.txt", [k / 12 for k in range(17)], dense)
    torch.testing.assert_close(read_trajectory(file, seconds_per_pose=1 / 3).c2w, read_trajectory(file).c2w[::4])


def test_fps_stands_in_for_times(tmp_path: Path) -> None:
    write_npy(tmp_path / "path.npy", straight(9))
    file = timed(tmp_path / "path.txt", [0.01 * k for k in range(9)], straight(9))
    for name in (tmp_path / "path.npy", file):
        flown = read_trajectory(name, seconds_per_pose=1 / 3, fps=12).c2w[:, 0, 3]
        torch.testing.assert_close(flown, torch.tensor([0, 0.4, 0.8]))
        with pytest.raises(ValueError, match="fps: expected seconds_per_pose beside it"):
            read_trajectory(name, fps=12)
    assert len(read_trajectory(tmp_path / "path.npy", seconds_per_pose=1 / 3)) == 9  # no times: a row for each pose


def test_timestamps_that_go_back_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    file = timed(tmp_path / "back.txt", [0, 0.2, 0.1], straight(3))
    assert len(read_trajectory(file)) == 3 and len(read_trajectory(file, seconds_per_pose=1 / 3, fps=3)) == 3
    with pytest.raises(ValueError, match=r"back.txt: expected timestamps that increase, got 200000 and then 100000"):
        read_trajectory(file, seconds_per_pose=1 / 3)
    same = timed(tmp_path / "same.txt", [5, 5, 5], straight(3))  # as good as none
    assert len(read_trajectory(same, seconds_per_pose=1 / 3)) == 3


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (GOOD_LINE.replace("0.9", "0_9"), "'0_9'"),
        (GOOD_LINE.replace("0.9", "٠.٩"), "'٠.٩'"),
        (GOOD_LINE[:-1] + "1e300", r"translations up to 1e\+09, got 1e\+300"),
        ("0.033" + GOOD_LINE[1:], "whole microseconds, got 0.033"),
        ("1e300" + GOOD_LINE[1:], "whole microseconds, got 1e300"),
        ("9" * 5000 + GOOD_LINE[1:], "whole microseconds, got 9"),
        ("nan" + GOOD_LINE[1:], "whole microseconds, got nan"),
        (GOOD_LINE.replace(" ", ","), "got one word"),
        (GOOD_LINE + " 0 0 0 1" * 10**5, "got more"),
        ("x" * 10**6, "got one word"),
    ],
)
def test_a_number_that_the_format_does_not_know_is_one_short_error(line: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_text(f"url\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"odd.txt.*: expected .*{fault}") as raised:
        read_trajectory(tmp_path / "odd.txt")
    assert len(str(raised.value)) < 1000


def test_a_mark_of_the_byte_order_is_no_part_of_the_url(tmp_path: Path) -> None:
    (tmp_path / "bom.txt").write_text(f"https://example.org\n{GOOD_LINE}\n", encoding="utf-8-sig")
    assert read_realestate10k(tmp_path / "bom.txt").url == "https://example.org"


def test_exact_timestamps_stay_exact(tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_text(f"url\n{10**18 + 1}{GOOD_LINE[1:]}\n")
    assert read_realestate10k(tmp_path / "late.txt").timestamps == (10**18 + 1,)


def test_no_file_fills_the_memory_or_stops_the_process(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("url\n" + f"{GOOD_LINE}\n" * 200_000)
    with (tmp_path / "sparse.txt").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "header.txt").write_text("u" * 10**6 + f"\n{GOOD_LINE}\n")
    os.mkfifo(tmp_path / "pipe.txt")
    os.mkfifo(tmp_path / "pipe.npy")
    np.lib.format.open_memmap(tmp_path / "long.npy", "w+", np.float32, (2**18, 4, 4)).flush()
    for name, header in {
        "many": "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4, 4), }",
        "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4, 4), }",
        "deep": "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 9000,
        "code": "__import__('os').system('true')",
    }.items():
        text = header.encode()
        (tmp_path / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=f"{path.name}: expected") as raised:
            read_trajectory(path)
        assert len(str(raised.value)) < 1000
