"""The border to bytes and files: exact round trips, known pixels, whole files, clear errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.data import video_io
from model.data.film_frames import film_frames


def gradient_film(num_frames: int = 9, height: int = 48, width: int = 80) -> Tensor:
    """Smooth in space and time, so that lossy films stay close."""
    t, y, x = torch.meshgrid(
        torch.linspace(0, 1, num_frames), torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return (torch.stack([t, y, x], dim=-1) * 200 + 20).to(torch.uint8)


def read_film(path: Path) -> Tensor:
    pytest.importorskip("av")
    return torch.stack([torch.from_numpy(frame.rgb()) for frame in film_frames(path)])


def test_every_byte_survives_the_round_trip() -> None:
    frames = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 2, 8, 16, 3)
    video = video_io.to_float(frames)
    assert video.shape == (1, 3, 2, 8, 16) and video.dtype == torch.float32
    assert video.min() == -1 and video.max() == 1
    assert torch.equal(video_io.to_uint8(video), frames)


def test_axes_move_and_values_are_rounded_and_clamped() -> None:
    frames = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    frames[1, 2, 3] = torch.tensor([255, 0, 51])
    video = video_io.to_float(frames)
    assert video.shape == (3, 2, 4, 5)
    torch.testing.assert_close(video[:, 1, 2, 3], torch.tensor([1.0, -1.0, -0.6]))
    wild = torch.tensor([-7.0, 7.0, 0.0039]).view(3, 1, 1, 1)  # 128.0 - 0.003
    assert video_io.to_uint8(wild).flatten().tolist() == [0, 255, 128]


def test_a_film_comes_back_with_its_frames_nearly_unchanged(tmp_path: Path) -> None:
    film, path = gradient_film(), tmp_path / "deep" / "film.mp4"
    video_io.write_video(path, film, fps=12)
    read = read_film(path)
    assert read.shape == film.shape and read.dtype == torch.uint8
    assert (read.float() - film.float()).abs().mean() < 2  # an mp4 halves the resolution of colour
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_numpy_film_is_as_good_as_a_tensor(tmp_path: Path) -> None:
    video_io.write_video(tmp_path / "a.mp4", gradient_film(), 12)
    video_io.write_video(tmp_path / "b.mp4", gradient_film().numpy(), 12.0)
    assert torch.equal(read_film(tmp_path / "a.mp4"), read_film(tmp_path / "b.mp4"))


def test_odd_sizes_and_single_frames_are_filmed(tmp_path: Path) -> None:
    video_io.write_video(tmp_path / "a.mp4", gradient_film(1, 33, 45), 12)
    assert read_film(tmp_path / "a.mp4").shape == (1, 34, 46, 3)


@pytest.mark.parametrize(
    ("name", "frames", "fps", "message"),
    [
        ("a.avi", 2, 12, r"path: expected .* got 'a.avi'"),
        ("a.mp4", 0, 12, "frames: expected some"),
        ("a.mp4", 2, 0, "fps > 0"),
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, name: str, frames: int, fps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        video_io.write_video(tmp_path / name, gradient_film(2)[:frames], fps)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    video_io.write_video(path, gradient_film(2), 12)
    before = path.read_bytes()

    def broken(partial: Path, *_: object, **__: object) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(video_io, "write_mp4", broken)
    with pytest.raises(OSError, match="disk full"):
        video_io.write_video(path, gradient_film(3), 12)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_pictures_are_lossless(tmp_path: Path) -> None:
    frame = gradient_film(1)[0]
    video_io.write_image(tmp_path / "a.png", frame)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), frame.numpy())
    with pytest.raises(ValueError, match="path: expected the ending of a picture"):
        video_io.write_image(tmp_path / "a.xyz", frame)
