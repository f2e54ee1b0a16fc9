"""Films of all sorts into clips: cuts, rates, holes in time, rotation flags, odd sizes, broken and silent files."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cc2env.recording import write_film
from model.curation.cuts import scan
from model.curation.shots import ClipFrames, ShotsConfig, plan_clips, read_clips
from model.data.cropping import crop_and_resize, crop_box, cropped_intrinsics
from model.data.film_frames import UntrustedTimes, film_frames
from model.data.video_io import write_video
from model.geometry.camera import pixel_grid

av = pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("scenedetect")

SMALL = ShotsConfig(fps=12, height=48, width=80, min_frames=6, max_frames=100)


def moving_picture(seed: int, frames: int, height: int = 48, width: int = 80) -> torch.Tensor:
    """A window that slides over a smooth random picture, two pixels a frame."""
    noise = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(noise, (height, width + 2 * frames), mode="bicubic").clamp(0, 1)
    wide = (large[0] * 255).to(torch.uint8).movedim(0, -1)
    return torch.stack([wide[:, 2 * k : 2 * k + width] for k in range(frames)]).contiguous()


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def clips_of(path: Path, config: ShotsConfig = SMALL) -> list[ClipFrames]:
    return list(read_clips(path, config))


def test_a_film_is_split_at_its_cuts_and_no_clip_crosses_one(tmp_path: Path) -> None:
    parts = [moving_picture(seed, frames) for seed, frames in ((0, 14), (1, 9), (2, 4), (3, 12))]
    write_video(tmp_path / "film.mp4", torch.cat(parts), 12)
    clips = clips_of(tmp_path / "film.mp4")
    assert [(clip.shot, clip.index, len(clip.frames)) for clip in clips] == [(0, 0, 14), (1, 0, 9), (3, 0, 12)]
    for clip, part in zip(clips, (parts[0], parts[1], parts[3]), strict=True):
        assert (clip.frames.float() - part.float()).abs().mean() < 8  # H.264's loss
    torch.testing.assert_close(clips[1].times, (14 + torch.arange(9, dtype=torch.float64)) / 12, atol=1e-6, rtol=0)


def test_cuts_near_both_ends_are_found_and_a_fast_camera_is_none(tmp_path: Path) -> None:
    parts = [moving_picture(seed, frames) for seed, frames in ((0, 1), (1, 12), (2, 1))]
    write_video(tmp_path / "ends.mp4", torch.cat(parts), 12)
    assert scan(tmp_path / "ends.mp4", 3.0, 15.0)[1] == [1, 13]
    assert scan(tmp_path / "ends.mp4", 0.0, 15.0)[1] == []
    write_video(tmp_path / "fast.mp4", moving_picture(4, 60)[::5], 12)
    assert scan(tmp_path / "fast.mp4", 3.0, 15.0)[1] == []


@given(
    gaps=st.lists(st.sampled_from([1 / 60, 1 / 30, 1 / 25, 1 / 13, 0.3]), min_size=1, max_size=120),
    fps=st.sampled_from([5.0, 8.0, 12.0]),
    cuts=st.lists(st.integers(1, 119), max_size=3, unique=True).map(sorted),
)
def test_clips_of_any_timing_keep_the_rate_and_use_no_frame_twice(
    gaps: list[float], fps: float, cuts: list[int]
) -> None:
    times = np.cumsum([0.5, *gaps]).tolist()
    config = ShotsConfig(fps=fps, min_frames=3, max_frames=20)
    plans = plan_clips(times, cuts, config)
    numbers = [number for plan in plans for number in plan.numbers]
    assert numbers == sorted(set(numbers))
    assert len({(plan.shot, plan.index) for plan in plans}) == len(plans)
    for plan in plans:
        assert 3 <= len(plan.numbers) <= 20
        assert not any(plan.numbers[0] < cut <= plan.numbers[-1] for cut in cuts)
        length = times[plan.numbers[-1]] - times[plan.numbers[0]]
        assert abs(length - (len(plan.numbers) - 1) / fps) < 1 / fps  # half an interval at each end


@pytest.mark.parametrize("source_fps", [12.0, 15.0, 23.976, 30.0, 60.0])
def test_a_film_at_any_constant_rate_becomes_one_run(source_fps: float) -> None:
    times = (np.arange(int(4 * source_fps)) / source_fps).tolist()
    plans = plan_clips(times, [], ShotsConfig(min_frames=12, max_frames=24))
    assert [len(plan.numbers) for plan in plans] == [24, 24] or source_fps == 23.976
    assert sum(len(plan.numbers) for plan in plans) >= 47


def test_a_variable_rate_is_resampled_by_the_frames_own_times(tmp_path: Path) -> None:
    frames = moving_picture(0, 30)
    milliseconds = [40 * k if k < 10 else 400 + 83 * (k - 10) for k in range(30)]  # 25 a second, then 12
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for picture, moment in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (clip,) = clips_of(path)
    assert len(clip.frames) == 25  # 0.4 s at 12, then all 20
    assert (clip.times - clip.times[0] - torch.arange(25) / 12).abs().max() < 0.5 / 12
    shown = [milliseconds.index(round(1000 * float(time))) for time in clip.times]
    assert (clip.frames.float() - frames[shown].float()).abs().mean() < 8


def with_times(path: Path, moments: list[int]) -> None:
    """A film of frames that are shown at these hundredths of a second, whatever sense they make."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=100)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuvj420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 100)
        for number, picture in enumerate(moving_picture(0, len(moments))):
            frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 100)
            for packet in stream.encode(frame):
                packet.pts, packet.dts = moments[number], number - len(moments)
                container.mux(packet)


@pytest.mark.parametrize("wrong", [{7: 48}, {7: 40}], ids=["twice", "back"])
def test_every_frame_is_counted_or_the_film_is_refused(tmp_path: Path, wrong: dict[int, int]) -> None:
    moments = [8 * k for k in range(20)]
    with_times(tmp_path / "film.mkv", moments)
    assert [round(100 * frame.time) for frame in film_frames(tmp_path / "film.mkv")] == moments
    with_times(tmp_path / "wrong.mkv", [wrong.get(k, moment) for k, moment in enumerate(moments)])
    with pytest.raises(UntrustedTimes, match=r"for every frame, got 0\.4.0 s after 0\.480 s"):
        clips_of(tmp_path / "wrong.mkv")  # no clip of the whole beginning either


def test_rotated_films_are_shown_upright(tmp_path: Path) -> None:
    """Against ffmpeg's own turning."""
    write_video(tmp_path / "lying.mp4", moving_picture(0, 6), 12)
    for angle in (90, 180, 270):
        path = tmp_path / f"turned{angle}.mp4"
        ffmpeg("-display_rotation", str(angle), "-i", tmp_path / "lying.mp4", "-c", "copy", path)
        ours = torch.stack([torch.from_numpy(frame.rgb()) for frame in film_frames(path)])
        ffmpeg("-i", path, "-pix_fmt", "rgb24", "-f", "rawvideo", tmp_path / "turned.rgb")
        expected = torch.from_numpy(np.fromfile(tmp_path / "turned.rgb", np.uint8)).view_as(ours)
        assert ours.shape == ((6, 48, 80, 3) if angle == 180 else (6, 80, 48, 3))
        assert (ours.float() - expected.float()).abs().mean() < 3


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    write_video(tmp_path / "square.mp4", moving_picture(0, 2), 12)
    ffmpeg("-i", tmp_path / "square.mp4", "-vf", "setsar=3/2", tmp_path / "wide.mp4")
    frame = next(film_frames(tmp_path / "wide.mp4"))
    assert (frame.height, frame.width) == (48, 120)
    assert frame.rgb().shape == (48, 120, 3) and frame.rgb(0.5).shape == (24, 60, 3)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi", "mov", "gif", "ts"])
def test_containers(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / "film.mp4", moving_picture(0, 13, height=50, width=86), 12)
    path = tmp_path / f"film.{suffix}"
    ffmpeg("-i", tmp_path / "film.mp4", *(("-crf", "10", "-b:v", "1M") if suffix == "webm" else ()), path)
    fps = 10.0 if suffix == "gif" else 12.0  # a GIF counts in 1/100 s
    (clip,) = clips_of(path, ShotsConfig(fps=fps, height=48, width=80, min_frames=6))
    assert clip.frames.shape[1:] == (48, 80, 3) and len(clip.frames) >= 10


def test_odd_sizes_are_read_whole(tmp_path: Path) -> None:
    picture = moving_picture(0, 7, height=51, width=83)
    write_film(tmp_path / "source.gif", picture.numpy(), 25)
    ffmpeg("-i", tmp_path / "source.gif", "-c:v", "ffv1", "-pix_fmt", "bgr0", tmp_path / "odd.mkv")
    frames = [frame.rgb() for frame in film_frames(tmp_path / "odd.mkv")]
    assert {frame.shape for frame in frames} == {(51, 83, 3)}
    assert clips_of(tmp_path / "odd.mkv", ShotsConfig(fps=25, height=20, width=16, min_frames=2))


def test_what_is_no_film_says_so(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "song.m4a")
    (tmp_path / "text.mp4").write_text("not a film " * 100)
    (tmp_path / "empty.mp4").touch()
    for name, message in (("song.m4a", "got only audio"), ("text.mp4", "cannot be opened"), ("empty.mp4", "expected")):
        with pytest.raises(ValueError, match=message):
            clips_of(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        clips_of(tmp_path / "missing.mp4")


def test_the_cover_of_a_song_is_no_film(tmp_path: Path) -> None:
    write_film(tmp_path / "cover.gif", moving_picture(0, 1).numpy(), 1)
    ffmpeg("-i", tmp_path / "cover.gif", "-frames:v", "1", tmp_path / "cover.png")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "song.m4a")
    art = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", tmp_path / "song.m4a", "-i", tmp_path / "cover.png", *art, tmp_path / "album.m4a")
    with pytest.raises(ValueError, match="expected a video stream"):
        clips_of(tmp_path / "album.m4a")


def test_a_film_that_breaks_off_gives_what_came_before_and_then_says_so(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", moving_picture(0, 60, height=144, width=240), 12)
    shutil.copy(tmp_path / "whole.mp4", tmp_path / "torn.mp4")  # its index is at the front: it opens
    with (tmp_path / "torn.mp4").open("r+b") as file:
        file.truncate((tmp_path / "whole.mp4").stat().st_size * 2 // 3)
    config = ShotsConfig(fps=12, height=48, width=80, min_frames=6, max_frames=10)
    whole = clips_of(tmp_path / "whole.mp4", config)
    found: list[ClipFrames] = []
    with pytest.raises(ValueError, match="breaks off after"):
        for clip in read_clips(tmp_path / "torn.mp4", config):
            found.append(clip)
    assert len(whole) == 6 and 1 <= len(found) < 6
    for clip, expected in zip(found[:-1], whole, strict=False):
        assert torch.equal(clip.frames, expected.frames)


def test_a_film_slower_than_the_clips_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", moving_picture(0, 12), 8)
    with pytest.raises(ValueError, match=r"at least 12 frames a second, got 8; lower fps"):
        clips_of(tmp_path / "slow.mp4")


@pytest.mark.parametrize("size", [(48, 80), (90, 80), (60, 200), (31, 33)])
def test_the_lens_follows_the_crop(size: tuple[int, int]) -> None:
    """A picture whose colours are its coordinates: what a pixel of the crop shows is where its ray was before."""
    top, left, height, width = crop_box(*size, 24, 40)
    assert top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
    assert height == size[0] or width == size[1]
    lens = torch.tensor([0.7, 0.9, 0.52, 0.47])
    grid = pixel_grid(*size)
    ray = (grid - lens[2:]) / lens[:2]
    kept = ray[top : top + height, left : left + width]
    shown = torch.nn.functional.interpolate(kept.movedim(-1, 0)[None], (24, 40), mode="bilinear")[0].movedim(0, -1)
    adjusted = cropped_intrinsics(lens, *size, 24, 40)
    expected = (pixel_grid(24, 40) - adjusted[2:]) / adjusted[:2]
    torch.testing.assert_close(shown[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2e-3, rtol=0)
    assert crop_and_resize(np.zeros((*size, 3), np.uint8), 24, 40).shape == (24, 40, 3)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"fps": 0.0}, {"min_frames": 1}, {"min_frames": 200}, {"height": 8}):
        with pytest.raises(ValueError, match="expected"):
            ShotsConfig(**wrong)  # type: ignore[arg-type]
