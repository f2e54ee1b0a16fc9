"""Data sets that exist: what is written is read back, in every format, with the same poses and lens."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.data.colmap_model import colmap_record, read_colmap_model, write_colmap_text
from model.data.nerfstudio import nerfstudio_record
from model.data.realestate10k import read_realestate10k_folder, write_realestate10k_folder
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

FRAMES = 5


@pytest.fixture
def camera() -> CameraTrajectory:
    generator = torch.Generator().manual_seed(0)
    c2w = se3.exp(torch.randn(FRAMES, 6, generator=generator))
    return CameraTrajectory(c2w, torch.tensor([0.8, 1.1, 0.49, 0.52]).expand(FRAMES, 4))


def same(a: CameraTrajectory | None, b: CameraTrajectory) -> bool:
    assert a is not None
    return torch.allclose(a.c2w, b.c2w, atol=1e-5) and torch.allclose(a.intrinsics, b.intrinsics, atol=1e-6)


def test_colmap_text_comes_back(camera: CameraTrajectory, tmp_path: Path) -> None:
    points = torch.randn(7, 3)
    write_colmap_text(tmp_path, camera, 240, 320, points=points)
    model = read_colmap_model(tmp_path)
    assert same(model.camera, camera)
    assert torch.allclose(model.points, points) and model.sizes[0] == (240, 320)
    record = colmap_record("a", tmp_path, tmp_path / "images", fps=10, scale=2.0)
    assert record.camera is not None and record.files[0] == "000000.png"
    assert torch.allclose(record.camera.c2w[:, :3, 3], 2 * camera.c2w[:, :3, 3], atol=1e-5)


def test_colmap_itself_reads_our_text_and_we_its_binary(camera: CameraTrajectory, tmp_path: Path) -> None:
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


def test_nerfstudio_axes_are_turned(camera: CameraTrajectory, tmp_path: Path) -> None:
    opengl = camera.c2w @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    # frame_10 sorts behind frame_9 in nature, and the order in the file means nothing
    frames = [
        {"file_path": f"images/frame_{7 + k}.png", "transform_matrix": opengl[k].tolist()}
        for k in reversed(range(FRAMES))
    ]
    data = {"w": 640, "h": 480, "fl_x": 512.0, "fl_y": 528.0, "cx": 313.6, "cy": 249.6, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    record = nerfstudio_record("a", tmp_path, fps=2)
    assert same(record.camera, camera)
    assert record.files[0] == "images/frame_7.png" and record.span == (0.0, 2.0)
    (tmp_path / "transforms.json").write_text(json.dumps(data | {"k1": 0.1}))
    with pytest.raises(ValueError, match="ignore_distortion"):
        nerfstudio_record("a", tmp_path)
    assert nerfstudio_record("a", tmp_path, ignore_distortion=True).provenance["distortion"] == "ignored"


def test_nerfstudio_angles_of_view(camera: CameraTrajectory, tmp_path: Path) -> None:
    frames = [{"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}]
    data = {"w": 200, "h": 100, "camera_angle_x": math.pi / 2, "frames": frames}
    (tmp_path / "t.json").write_text(json.dumps(data))
    record = nerfstudio_record("a", tmp_path / "t.json")
    assert record.camera is not None
    assert torch.allclose(record.camera.intrinsics[0], torch.tensor([0.5, 1.0, 0.5, 0.5]))
    (tmp_path / "t.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(ValueError, match="nerfstudio's transforms"):
        nerfstudio_record("a", tmp_path / "t.json")


def test_realestate10k_comes_back_with_its_media(camera: CameraTrajectory, tmp_path: Path) -> None:
    write_colmap_text(tmp_path / "model", camera, 48, 80)
    record = colmap_record("clip", tmp_path / "model", "pictures", fps=8)
    (path,) = write_realestate10k_folder(tmp_path / "poses", [record])
    (tmp_path / "poses" / "bad.txt").write_text("url\n1 2 3\n")
    report = read_realestate10k_folder(tmp_path / "poses")
    (read,) = report.records
    assert same(read.camera, camera) and torch.allclose(read.times, record.times)
    ((bad, reason),) = report.rejected.items()
    assert bad.startswith("bad-") and "expected 19 numbers" in reason
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "clip.mp4").write_bytes(b"")
    (found,) = read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").records
    assert found.source.endswith("clip.mp4") and path.name == "clip.txt"
    stamps = (record.times * 1e6).long().tolist()
    (tmp_path / "media" / "clip").mkdir()
    for stamp in stamps[:-1]:
        (tmp_path / "media" / "clip" / f"{stamp}.png").write_bytes(b"")
    assert "1 are missing" in str(read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").rejected)
    (tmp_path / "media" / "clip" / f"{stamps[-1]}.png").write_bytes(b"")
    (found,) = read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").records
    assert found.files == tuple(f"{stamp}.png" for stamp in stamps)
