"""RealEstate10K folders: what is written is read back; films are found whole or cut, and what is missing is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cc2env.recording import write_film
from model.data.manifest import ClipRecord
from model.data.realestate10k import read_realestate10k_folder, write_realestate10k_folder
from model.data.video_io import write_video
from model.geometry.trajectory import CameraTrajectory

FRAMES = 5
Pictures = Callable[..., None]
Same = Callable[[CameraTrajectory | None, CameraTrajectory], bool]


def realestate10k(folder: Path, camera: CameraTrajectory, *, first: float = 0.0, **fields: object) -> ClipRecord:
    """Writes poses/clip.txt: a frame every eighth of a second, from `first` seconds of the video on."""
    times = first + torch.arange(FRAMES, dtype=torch.float64) / 8
    record = ClipRecord(id="clip", source="film.mp4", times=times, camera=camera, **fields)  # type: ignore[arg-type]
    write_realestate10k_folder(folder / "poses", [record])
    return record


def film(path: Path, num_frames: int = FRAMES) -> None:
    frames = (8 * torch.arange(num_frames)).to(torch.uint8)  # all different: a GIF stores equal ones once
    grey = frames[:, None, None, None].expand(-1, 48, 80, 3)
    if path.suffix == ".gif":
        write_film(path, grey.numpy(), 8)
    else:
        write_video(path, grey, 8)


def test_realestate10k_comes_back_with_its_pictures(
    camera: CameraTrajectory, tmp_path: Path, pictures: Pictures, same: Same
) -> None:
    record = realestate10k(tmp_path, camera)
    (tmp_path / "poses" / "bad.txt").write_text("url\n1 2 3\n")
    report = read_realestate10k_folder(tmp_path / "poses")
    (read,) = report.records
    assert same(read.camera, camera) and torch.allclose(read.times, record.times) and read.scale is None
    ((bad, reason),) = report.rejected.items()
    assert bad.startswith("bad-") and "expected 19 numbers" in reason
    stamps = [f"{stamp}.png" for stamp in (record.times * 1e6).long().tolist()]
    pictures(tmp_path / "media" / "clip", stamps[:-1])
    assert "1 are missing" in str(read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").rejected)
    pictures(tmp_path / "media" / "clip", stamps[-1:])
    (found,) = read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").records
    assert found.files == tuple(stamps) and found.source == str(tmp_path / "media" / "clip")


def test_the_prompt_of_a_recorded_episode_is_the_caption(camera: CameraTrajectory, tmp_path: Path) -> None:
    realestate10k(tmp_path, camera)
    prompts = tmp_path / "poses" / "clip.json"
    for text, caption in (('{"prompt": "a red box", "prompts": ["a red box"]}', "a red box"), ('{"fps": 8}', "")):
        prompts.write_text(text)
        assert read_realestate10k_folder(tmp_path / "poses").records[0].caption == caption
    for text in ("{", "[1]", '{"prompt": 3}', "[" * 100_000):
        prompts.write_text(text)
        ((_, reason),) = read_realestate10k_folder(tmp_path / "poses").rejected.items()
        assert "expected the prompts of an episode" in reason


VIDEO = {"provenance": {"url": "https://www.youtube.com/watch?v=in69BD2eZqg"}}


@pytest.mark.parametrize(
    ("first", "name", "num_frames", "start"),
    [
        (0.0, "clip.mp4", FRAMES, 0.0),
        (0.0, "clip.gif", FRAMES, 0.0),
        (1.0, "clip.mp4", FRAMES + 8, 1.0),  # the whole film
        (1.0, "clip.mp4", FRAMES, 0.0),  # cut to the clip: its first frame is that of the first time stamp
        (195.5, "clip.mp4", FRAMES, 0.0),
        (195.5, "in69BD2eZqg/clip.mp4", FRAMES, 0.0),
        (1.0, "in69BD2eZqg.mp4", FRAMES + 20, 1.0),
        (1.0, "clip.MP4", FRAMES + 8, 1.0),
    ],
)
def test_a_realestate10k_film_is_found_whole_or_cut(
    first: float, name: str, num_frames: int, start: float, camera: CameraTrajectory, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    realestate10k(tmp_path, camera, first=first, **VIDEO)
    film(tmp_path / "media" / name, num_frames)
    (record,) = read_realestate10k_folder(tmp_path / "poses", tmp_path / "media").records
    assert record.source == str(tmp_path / "media" / name)
    assert record.span == pytest.approx((start, start + (FRAMES - 1) / 8), abs=0.02)  # GIF counts in 1/100 s


@pytest.mark.parametrize("media", ["none", "trimmed", "empty", "text", "folder"])
def test_a_film_that_is_missing_trimmed_or_torn_is_a_line_and_the_others_stay(
    media: str, camera: CameraTrajectory, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    realestate10k(tmp_path, camera, first=195.5, **VIDEO)
    shutil.copy(tmp_path / "poses" / "clip.txt", tmp_path / "poses" / "other.txt")
    film(tmp_path / "media" / "other.mp4")
    match media:
        case "trimmed":
            film(tmp_path / "media" / "clip.mp4", FRAMES - 3)
        case "empty" | "text":
            (tmp_path / "media" / "clip.mp4").write_bytes(b"" if media == "empty" else b"sorry, this video is gone")
        case "folder":
            (tmp_path / "media" / "clip.mp4").mkdir()
    report = read_realestate10k_folder(tmp_path / "poses", tmp_path / "media")
    assert [record.id.split("-")[0] for record in report.records] == ["other"]
    ((clip, reason),) = report.rejected.items()
    assert clip.startswith("clip-") and "expected" in reason and str(tmp_path / "media") in reason
    with pytest.raises(FileNotFoundError, match="media: expected a folder"):
        read_realestate10k_folder(tmp_path / "poses", tmp_path / "medium")


def test_realestate10k_in_units_of_the_user(camera: CameraTrajectory, tmp_path: Path, same: Same) -> None:
    realestate10k(tmp_path, camera)
    (record,) = read_realestate10k_folder(tmp_path / "poses", scale=2.5).records
    assert record.scale == 2.5 and same(record.camera, camera.scaled(2.5))


def test_metres_that_were_exported_are_metres_again(camera: CameraTrajectory, tmp_path: Path, same: Same) -> None:
    realestate10k(tmp_path, camera, scale=3.0)
    for scale in (None, 1.0):
        (record,) = read_realestate10k_folder(tmp_path / "poses", scale=scale).records
        assert record.scale == 1.0 and same(record.camera, camera) and record.provenance["url"] == "film.mp4"
    report = read_realestate10k_folder(tmp_path / "poses", scale=2.0)
    assert not report.records and "in metres already" in str(report.rejected)


def test_a_lens_that_changes_within_a_realestate10k_file_is_refused(camera: CameraTrajectory, tmp_path: Path) -> None:
    zoom = camera.intrinsics.clone()
    zoom[-1, 0] *= 1.5
    realestate10k(tmp_path, CameraTrajectory(camera.c2w, zoom))
    report = read_realestate10k_folder(tmp_path / "poses")
    assert not report.records and "expected one camera for all frames" in str(report.rejected)
