"""The border to bytes and files: exact round trips, known pixels, whole files, clear errors."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.data import video_io


def gradient_film(num_frames: int = 9, height: int = 48, width: int = 80) -> Tensor:
    """Smooth in space and time, so that lossy films stay close."""
    t, y, x = torch.meshgrid(
        torch.linspace(0, 1, num_frames), torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return (torch.stack([t, y, x], dim=-1) * 200 + 20).to(torch.uint8)


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


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_film_comes_back_with_its_frames_nearly_unchanged(tmp_path: Path, ending: str) -> None:
    film = gradient_film()
    path = tmp_path / "deep" / f"film.{ending}"
    video_io.write_video(path, film, fps=12)
    read = video_io.read_video(path)
    assert read.shape == film.shape and read.dtype == torch.uint8
    # A GIF has 256 colours a frame and dithers; an mp4 halves the resolution of colour.
    assert (read.float() - film.float()).abs().mean() < (6 if ending == "gif" else 2)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_numpy_film_is_as_good_as_a_tensor(tmp_path: Path) -> None:
    video_io.write_video(tmp_path / "a.mp4", gradient_film(), 12)
    video_io.write_video(tmp_path / "b.mp4", gradient_film().numpy(), 12.0)
    assert torch.equal(video_io.read_video(tmp_path / "a.mp4"), video_io.read_video(tmp_path / "b.mp4"))


def test_odd_sizes_and_single_frames_are_filmed(tmp_path: Path) -> None:
    video_io.write_video(tmp_path / "a.mp4", gradient_film(1, 33, 45), 12)
    assert video_io.read_video(tmp_path / "a.mp4").shape == (1, 34, 46, 3)
    video_io.write_video(tmp_path / "a.gif", gradient_film(1, 33, 45), 12)
    assert video_io.read_video(tmp_path / "a.gif").shape == (1, 33, 45, 3)


def test_scale_enlarges_every_pixel(tmp_path: Path) -> None:
    video_io.write_video(tmp_path / "a.mp4", gradient_film(2), 12, scale=3)
    assert video_io.read_video(tmp_path / "a.mp4").shape == (2, 144, 240, 3)
    frame = gradient_film(1)[0]
    video_io.write_image(tmp_path / "a.png", frame, scale=2)
    assert torch.equal(video_io.read_image(tmp_path / "a.png")[::2, 1::2], frame)


@pytest.mark.parametrize("fps", [12, 24, 30, 7.5])
def test_a_gif_keeps_its_pace_though_it_counts_in_hundredths(tmp_path: Path, fps: float) -> None:
    video_io.write_video(tmp_path / "a.gif", gradient_film(25), fps)
    with Image.open(tmp_path / "a.gif") as file:
        milliseconds = 0
        for index in range(25):
            file.seek(index)
            milliseconds += file.info["duration"]
    assert milliseconds == pytest.approx(25_000 / fps, abs=5.001)


@pytest.mark.parametrize(
    ("name", "frames", "fps", "scale", "message"),
    [
        ("a.avi", 2, 12, 1, r"path: expected .* got '.avi'"),
        ("a.mp4", 0, 12, 1, "frames: expected some"),
        ("a.mp4", 2, 0, 1, "fps > 0"),
        ("a.mp4", 2, 12, 0, "scale >= 1"),
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, name: str, frames: int, fps: int, scale: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        video_io.write_video(tmp_path / name, gradient_film(2)[:frames], fps, scale)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_an_unreadable_film_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        video_io.read_video(tmp_path / name)
    (tmp_path / name).write_bytes(b"not a film at all")
    with pytest.raises(ValueError, match=rf"{name}: expected a "):
        video_io.read_video(tmp_path / name)


def test_a_failed_write_leaves_the_old_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gif"
    video_io.write_video(path, gradient_film(2), 12)
    before = path.read_bytes()

    def broken(partial: Path, *_: object) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(video_io, "_write_gif", broken)
    with pytest.raises(OSError, match="disk full"):
        video_io.write_video(path, gradient_film(3), 12)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_pictures_are_lossless_and_cropped_about_their_centre(tmp_path: Path) -> None:
    wide = torch.zeros(10, 40, 3, dtype=torch.uint8)
    wide[:, 15:25] = 200
    video_io.write_image(tmp_path / "wide.png", wide)
    assert torch.equal(video_io.read_image(tmp_path / "wide.png"), wide)
    square = video_io.read_image(tmp_path / "wide.png", 10, 10)
    assert square.shape == (10, 10, 3) and (square == 200).all()
    assert video_io.read_image(tmp_path / "wide.png", 48, 80).shape == (48, 80, 3)


def test_grey_transparent_and_turned_pictures_become_upright_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "1", "I;16", "CMYK"):
        path = tmp_path / f"{mode.replace(';', '')}.tiff"
        Image.new(mode, (6, 4)).save(path)
        assert video_io.read_image(path).shape == (4, 6, 3)
    turned = Image.new("RGB", (6, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # "Rotate by 90 degrees to view."
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert video_io.read_image(tmp_path / "turned.jpg").shape == (6, 4, 3)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        video_io.read_image(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png: expected a readable picture"):
        video_io.read_image(tmp_path / "text.png")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:1000])
    with pytest.raises(ValueError, match=r"half\.png: expected a readable picture"):
        video_io.read_image(tmp_path / "half.png")
    with pytest.raises(ValueError, match="path: expected the ending of a picture"):
        video_io.write_image(tmp_path / "a.xyz", gradient_film(1)[0])


def test_a_gif_that_would_fill_the_memory_is_not_decoded(tmp_path: Path) -> None:
    frames = [Image.new("L", (4000, 4000), grey) for grey in range(20)]
    frames[0].save(tmp_path / "bomb.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "header.gif").write_bytes(b"GIF89a" + b"\xff" * 7)
    (tmp_path / "empty.gif").write_bytes(b"")
    for name in ("bomb", "header", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.gif: expected a GIF"):
            video_io.read_video(tmp_path / f"{name}.gif")


def test_a_contact_sheet_shows_first_to_last_frame_of_every_clip() -> None:
    clips = [gradient_film(9, 4, 6), gradient_film(5, 4, 6).numpy(), gradient_film(1, 4, 6)]
    sheet = video_io.contact_sheet(clips, columns=3, gap=1)
    assert sheet.shape == (1 + 3 * 5, 1 + 3 * 7, 3)
    assert (sheet[0] == 24).all() and (sheet[:, 0] == 24).all() and (sheet[:, 7] == 24).all()
    for column, frame in enumerate((0, 4, 8)):
        assert torch.equal(sheet[1:5, 1 + 7 * column : 7 + 7 * column], clips[0][frame])
    assert torch.equal(sheet[6:10, 15:21], torch.from_numpy(clips[1][4]))
    assert torch.equal(sheet[11:15, 1:7], clips[2][0])
    assert (sheet[11:15, 7:] == 24).all()  # One frame only: the rest of the row stays empty.
    assert video_io.contact_sheet(clips, columns=3, gap=1, scale=2).shape == (1 + 3 * 9, 1 + 3 * 13, 3)


def test_clips_of_different_frame_sizes_do_not_make_a_sheet() -> None:
    with pytest.raises(ValueError, match="clips: expected clips of one frame size"):
        video_io.contact_sheet([gradient_film(2, 4, 6), gradient_film(2, 6, 4)])
    with pytest.raises(ValueError, match="clips: expected"):
        video_io.contact_sheet([])
