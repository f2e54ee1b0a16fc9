"""Data sets that exist: what is written is read back, in every format, with the same poses and lens."""

import json
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.data.camera_checks import natural_order
from model.data.colmap_model import colmap_record, read_colmap_model
from model.data.nerfstudio import nerfstudio_record
from model.geometry.colmap_text import write_colmap_text
from model.geometry.trajectory import CameraTrajectory

FRAMES = 5
Pictures = Callable[..., None]
Same = Callable[[CameraTrajectory | None, CameraTrajectory], bool]


def test_colmap_text_comes_back(camera: CameraTrajectory, tmp_path: Path, pictures: Pictures, same: Same) -> None:
    write_colmap_text(tmp_path, camera, 240, 320)
    model = read_colmap_model(tmp_path)
    assert same(model.camera, camera) and model.sizes[0] == (240, 320)
    pictures(tmp_path / "images", model.names)
    record = colmap_record("a", tmp_path, tmp_path / "images", fps=10, scale=2.0)
    assert record.camera is not None and record.files[0] == "000000.png"
    assert torch.allclose(record.camera.c2w[:, :3, 3], 2 * camera.c2w[:, :3, 3], atol=1e-5)


def test_colmap_itself_reads_our_text_and_we_its_binary(camera: CameraTrajectory, tmp_path: Path, same: Same) -> None:
    """A second implementation, in a process of its own: pycolmap and torch do not load well together."""
    write_colmap_text(tmp_path / "text", camera, 240, 320)
    (tmp_path / "bin").mkdir()
    code = "import sys, zlib, numpy, pycolmap; pycolmap.Reconstruction(sys.argv[1]).write_binary(sys.argv[2])"
    command = [sys.executable, "-c", code, str(tmp_path / "text"), str(tmp_path / "bin")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'pycolmap'" in finished.stderr:
        pytest.skip("pycolmap is not installed")
    assert finished.returncode == 0, finished.stderr
    assert same(read_colmap_model(tmp_path / "bin").camera, camera)


def test_a_distorted_or_torn_colmap_model_is_refused(camera: CameraTrajectory, tmp_path: Path) -> None:
    write_colmap_text(tmp_path, camera, 240, 320)
    (tmp_path / "cameras.txt").write_text("1 SIMPLE_RADIAL 320 240 300 160 120 0.1\n")
    with pytest.raises(ValueError, match="undistort"):
        read_colmap_model(tmp_path)
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<Q", 3))
    (tmp_path / "images.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="whole COLMAP model"):
        read_colmap_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected cameras"):
        read_colmap_model(tmp_path / "none")


def test_nerfstudio_axes_are_turned(camera: CameraTrajectory, tmp_path: Path, pictures: Pictures, same: Same) -> None:
    opengl = camera.c2w @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    # frame_10 sorts behind frame_9 in nature, and the order in the file means nothing
    frames = [
        {"file_path": f"images/frame_{7 + k}.png", "transform_matrix": opengl[k].tolist()}
        for k in reversed(range(FRAMES))
    ]
    data = {"w": 640, "h": 480, "fl_x": 512.0, "fl_y": 528.0, "cx": 313.6, "cy": 249.6, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    pictures(tmp_path, [str(frame["file_path"]) for frame in frames], 480, 640)
    record = nerfstudio_record("a", tmp_path, fps=2)
    assert same(record.camera, camera)
    assert record.files[0] == "images/frame_7.png" and record.span == (0.0, 2.0)
    (tmp_path / "transforms.json").write_text(json.dumps(data | {"k1": 0.1}))
    with pytest.raises(ValueError, match="ignore_distortion"):
        nerfstudio_record("a", tmp_path)
    assert nerfstudio_record("a", tmp_path, ignore_distortion=True).provenance["distortion"] == "ignored"


def test_nerfstudio_angles_of_view(camera: CameraTrajectory, tmp_path: Path, pictures: Pictures) -> None:
    frames = [{"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}]
    data = {"w": 200, "h": 100, "camera_angle_x": math.pi / 2, "frames": frames}
    pictures(tmp_path, ["a.png"], 100, 200)
    (tmp_path / "t.json").write_text(json.dumps(data))
    record = nerfstudio_record("a", tmp_path / "t.json")
    assert record.camera is not None
    assert torch.allclose(record.camera.intrinsics[0], torch.tensor([0.5, 1.0, 0.5, 0.5]))
    (tmp_path / "t.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(ValueError, match="nerfstudio's transforms"):
        nerfstudio_record("a", tmp_path / "t.json")


@pytest.mark.parametrize(
    ("named", "there", "media"),
    [
        ("images/a", "images/a.png", None),  # blender leaves endings out
        ("./images/a", "images/a.JPG", None),
        ("images\\a.png", "images/a.png", None),
        ("images/a.png", "images_4/a.png", "images_4"),
        ("./images/cam/a.png", "images_4/cam/a.png", "images_4"),
        ("a.png", "images_4/a.png", "images_4"),
    ],
)
def test_nerfstudio_pictures_are_found(
    named: str, there: str, media: str | None, tmp_path: Path, pictures: Pictures
) -> None:
    frames = [{"file_path": named, "transform_matrix": torch.eye(4).tolist()}]
    data = {"w": 80, "h": 40, "fl_x": 50, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="expected a picture for each of 1 frames, 1 are missing"):
        nerfstudio_record("a", tmp_path, media=media)
    pictures(tmp_path, [there], 40, 80)
    record = nerfstudio_record("a", tmp_path, media=media)
    assert (Path(record.source) / record.files[0]).samefile(tmp_path / there)


F = {"fl_x": 60.0, "fl_y": 60.0, "cx": 40.0, "cy": 24.0, "w": 80, "h": 48}


@pytest.fixture
def scene(pictures: Pictures) -> Callable[..., Path]:
    def write(folder: Path, top: dict[str, object], per_frame: list[dict[str, object]] | None = None) -> Path:
        """A nerfstudio scene of five pictures of 80x48."""
        names = [f"images/{number}.png" for number in range(FRAMES)]
        pictures(folder, names, 48, 80)
        frames = [{"file_path": name, "transform_matrix": torch.eye(4).tolist()} for name in names]
        frames = [frame | more for frame, more in zip(frames, per_frame or FRAMES * [{}], strict=True)]
        (folder / "transforms.json").write_text(json.dumps(top | {"frames": frames}))
        return folder

    return write


@pytest.mark.parametrize(
    "top",
    [
        F,
        {"camera_angle_x": 2 * math.atan(40 / 60), "camera_angle_y": 2 * math.atan(24 / 60)},  # sizes of the pictures
        {key: value for key, value in F.items() if key not in "wh"},
        {key: str(value) for key, value in F.items()},
        F | {"camera_model": "FULL_OPENCV", "k1": 0, "k5": 0.0, "p1": None, "is_fisheye": False, "ftheta_p0": 0.0},
        F | {"w": 160, "h": 96, "fl_x": 120, "fl_y": 120, "cx": 80, "cy": 48},  # the pictures are half as large
    ],
)
def test_nerfstudio_lenses_that_are_pinholes(
    top: dict[str, object], tmp_path: Path, scene: Callable[..., Path]
) -> None:
    record = nerfstudio_record("a", scene(tmp_path, top))
    assert record.camera is not None
    torch.testing.assert_close(record.camera.intrinsics, torch.tensor([0.75, 1.25, 0.5, 0.5]).expand(FRAMES, 4))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"is_fisheye": True}, "is_fisheye"),
        ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE"),
        ({"camera_model": "FISHEYE624"}, "FISHEYE624"),
        ({"fisheye_crop_radius": 400}, "fisheye_crop_radius"),
        ({"latlong": True}, "latlong"),
        ({"equirectangular": True}, "equirectangular"),
        ({"ftheta_p0": 0.0, "ftheta_p1": 0.01}, "ftheta_p1"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"distortion_params": [-0.3, 0.1, 0, 0]}, "without distortion"),
        ({"k5": 0.2}, "without distortion"),
        ({"rolling_shutter": [0.1, 0, 0, 0.02]}, "without distortion"),
        ({"w": 0}, "w 0"),
        ({"h": -48}, "h -48"),
        ({"w": float("inf")}, "w inf"),
        ({"fl_x": 0.0}, "got .0.0,"),
        ({"fl_x": -60.0}, "got .-0.75,"),
        ({"fl_y": float("nan")}, "got .0.75, nan"),
        ({"fl_x": 10**400}, "OverflowError"),
        ({"cx": 4000.0}, "got .0.75, 1.25, 50.0"),
        ({"fl_x": None, "fl_y": None}, "neither fl_x nor camera_angle_x"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 0.0}, "camera_angle_x 0"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": math.pi}, "camera_angle_x 3.14"),
        ({"h": 80}, "pictures of the camera's aspect, 80 x 80, got 80 x 48"),
        ({"w": 48, "h": 80}, "pictures of the camera's aspect, 48 x 80"),  # of pictures turned by EXIF
    ],
)
def test_nerfstudio_lenses_that_are_refused(
    changes: dict[str, object], fault: str, tmp_path: Path, scene: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=f"transforms.json: expected .*{fault}"):
        nerfstudio_record("a", scene(tmp_path, F | changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"fl_x": 66.0}, "one camera for all frames, got lenses that differ by 10.0 %"),
        ({"w": 160, "h": 96, "fl_x": 120, "fl_y": 120, "cx": 80, "cy": 48}, "one camera, got several sizes"),
        ({"file_path": "other/1.png"}, "one folder, got 2 folders"),
        ({"file_path": "images/0.png"}, "each picture once, got 1"),
        ({"is_fisheye": True}, "is_fisheye"),
    ],
)
def test_a_clip_has_one_camera(
    changes: dict[str, object], fault: str, tmp_path: Path, pictures: Pictures, scene: Callable[..., Path]
) -> None:
    pictures(tmp_path, ["other/1.png"], 48, 80)
    scene(tmp_path, F, [{}, changes, *(FRAMES - 2) * [{}]])
    with pytest.raises(ValueError, match=f"transforms.json: expected .*{fault}"):
        nerfstudio_record("a", tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[1, 2]", "{}", '{"frames": [3]}', '{"frames": [{"file_path": 3}]}', "\udcff"]
)
def test_malformed_transforms_are_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"transforms.json: expected nerfstudio's transforms"):
        nerfstudio_record("a", tmp_path)


def test_transforms_of_a_windows_editor_are_read(tmp_path: Path, scene: Callable[..., Path]) -> None:
    path = scene(tmp_path, F) / "transforms.json"
    path.write_text("\ufeff" + path.read_text().replace(", ", ",\r\n"), encoding="utf-8")
    assert len(nerfstudio_record("a", tmp_path)) == FRAMES


def test_names_are_in_natural_order_whatever_digits_they_hold() -> None:
    names = ["f²", "f1", "f01", "f2", "f10", "f10a", "f٣", "f" + "9" * 5000, "g"]
    assert sorted(reversed(names), key=natural_order) == sorted(names, key=natural_order)
    ordered = sorted(names, key=natural_order)
    assert [name for name in ordered if name in {"f1", "f2", "f10", "g"}] == ["f1", "f2", "f10", "g"]


P = "1 PINHOLE 80 48 60 60 40 24"


@pytest.fixture
def colmap(pictures: Pictures) -> Callable[..., Path]:
    def write(folder: Path, cameras: list[str], names: list[str] | None = None, points: str = "1 2 -1") -> Path:
        """A COLMAP scene of five pictures of 80x48, 0.1 apart; the last camera sees the last picture."""
        names = names or [f"{number}.png" for number in range(8, 8 + FRAMES)]
        pictures(folder / "images", names, 48, 80)
        (folder / "cameras.txt").write_text("".join(f"{camera}\n" for camera in cameras))
        ids = [1] * (FRAMES - 1) + [len(cameras)]
        rows = [f"{k} 1 0 0 0 {-0.1 * k} 0 0 {ids[k]} {name}\n{points}\n" for k, name in enumerate(names)]
        (folder / "images.txt").write_text("".join(reversed(rows)))
        return folder

    return write


@pytest.mark.parametrize("name", ["{}.png", "my  frame ({}).png", "cam0/{}.png", "²{}.png"])
def test_colmap_pictures_are_in_natural_order(name: str, tmp_path: Path, colmap: Callable[..., Path]) -> None:
    names = [name.format(number) for number in range(8, 8 + FRAMES)]
    record = colmap_record("a", colmap(tmp_path, [P], names), tmp_path / "images")
    assert record.files == tuple(names) and record.camera is not None
    torch.testing.assert_close(record.camera.c2w[:, 0, 3], 0.1 * torch.arange(FRAMES))


@pytest.mark.parametrize(
    ("cameras", "fault"),
    [
        (["1 PINHOLE 0 48 60 60 40 24"], "got 0 x 48 pixels"),
        (["1 PINHOLE 80 48 0 60 40 24"], "got .0.0, 1.25"),
        (["1 PINHOLE 80 48 -60 60 40 24"], "got .-0.75, 1.25"),
        (["1 PINHOLE 80 48 nan nan 40 24"], "got .nan, nan"),
        (["1 PINHOLE 80 48 60"], "4 parameters of the PINHOLE camera, got 80 x 48 pixels and 1"),
        (["1 OPENCV_FISHEYE 80 48 60 60 40 24 0 0 0 0"], "OPENCV_FISHEYE"),
        (["1 RAD_TAN_THIN_PRISM_FISHEYE 80 48 60 60 40 24 0 0 0 0"], "RAD_TAN_THIN_PRISM_FISHEYE"),
        (["1 PINHOLE 80 80 60 60 40 40"], "pictures of the camera's aspect, 80 x 80, got 80 x 48"),
        ([P, "2 PINHOLE 160 96 120 120 80 48"], "one camera, got several sizes"),
        ([P, "2 PINHOLE 80 48 70 60 40 24"], "one camera for all frames, got lenses that differ by 16.7 %"),
    ],
)
def test_colmap_cameras_that_are_refused(
    cameras: list[str], fault: str, tmp_path: Path, colmap: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=f"expected .*{fault}"):
        colmap_record("a", colmap(tmp_path, cameras), tmp_path / "images")


def test_colmap_text_without_lines_of_points_is_refused_rather_than_halved(
    tmp_path: Path, colmap: Callable[..., Path]
) -> None:
    colmap(tmp_path, [P])
    lines = (tmp_path / "images.txt").read_text().splitlines()[::2]
    (tmp_path / "images.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="two lines stand for each picture"):
        colmap_record("a", tmp_path, tmp_path / "images")
