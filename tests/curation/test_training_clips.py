"""What training reads of a data set of films: the right frames, the camera of the cropped picture, captions, labels."""

import dataclasses
import json
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

import cc2env
from model.build import TrainConfig, TrainVAEConfig
from model.checkpoint import load_component, load_meta
from model.cli.train import train
from model.cli.train_vae import train_vae
from model.curation.film_folder import FilmFolder
from model.curation.ledger import LedgerLine
from model.curation.publish import PublishConfig, publish
from model.curation.training_clips import clip_set, held_out_set
from model.data.clips import ClipSet, ClipSetConfig
from model.data.manifest import ClipRecord
from model.data.video_io import write_image, write_video
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation.preview import preview_scenes
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory
from model.text.tiny_vocabulary import TinyVocabularyEncoder
from model.training.latent_set import LatentBatches, weights_fingerprint
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.config import read_world_config
from model.world.folder import world_folder
from model.world.load import load_world

for name in ("cv2", "av", "joblib"):
    pytest.importorskip(name)

LENS = torch.tensor([0.6, 1.2, 0.45, 0.55])
CONFIG = ClipSetConfig(num_clips=100, num_latents=3, height=48, width=48, fps=12.0, shard_size=2)


def numbered(first: int, count: int, height: int = 48, width: int = 96) -> torch.Tensor:
    """Frames whose brightness is 4 times their number."""
    values = (4 * torch.arange(first, first + count)).to(torch.uint8)
    return values[:, None, None, None].expand(count, height, width, 3).contiguous()


def path(frames: int) -> CameraTrajectory:
    """From anywhere, 0.1 m to the right a frame."""
    start = se3.exp(torch.tensor([3.0, -2.0, 1.0, 0.1, 0.4, 0.0]))
    twists = torch.arange(frames)[:, None] * torch.tensor([0.1, 0.0, 0.0, 0.0, 0.02, 0.0])
    return CameraTrajectory(start @ se3.exp(twists), LENS.expand(frames, 4))


def add(data: Path, record: ClipRecord) -> None:
    verdict = "unlabelled" if record.camera is None else "kept"
    with FilmFolder(data / "work" / record.id) as folder:
        folder.add(LedgerLine(id=record.id, source=record.source, verdict=verdict, step="read"), record)
        folder.finish()


def film(folder: Path, name: str, frames: int, fps: float, **fields: object) -> ClipRecord:
    write_video(folder / f"{name}.mp4", numbered(0, frames), fps)
    times = torch.arange(frames, dtype=torch.float64) / fps
    return ClipRecord(id=name, source=str(folder / f"{name}.mp4"), times=times, **fields)  # type: ignore[arg-type]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Films at 12 and 24 frames a second, one without camera, one with a camera of unknown scale, and pictures."""
    folder = tmp_path / "data"
    add(folder, film(tmp_path, "fast", 20, 24.0, camera=path(20), scale=2.0, caption="a blue wall"))
    add(folder, film(tmp_path, "plain", 20, 12.0, camera=path(20), scale=1.0))
    add(folder, film(tmp_path, "unknown", 9, 12.0, camera=path(9)))
    add(folder, film(tmp_path, "unlabelled", 9, 12.0))
    add(folder, film(tmp_path, "short", 8, 12.0))
    for number, picture in enumerate(numbered(0, 9)):
        write_image(tmp_path / "pictures" / f"{number}.png", picture)
    files = tuple(f"{number}.png" for number in range(9))
    times = torch.arange(9, dtype=torch.float64) / 12
    add(
        folder,
        ClipRecord(id="p", source=str(tmp_path / "pictures"), times=times, files=files, camera=path(9), scale=1.0),
    )
    publish(folder, PublishConfig())
    return folder


def composed(folder: Path, main: str, *overrides: str) -> object:
    shared = (f"data.folder={folder}/data", "experiment=debug", "training.batch_size=2")
    with initialize_config_module(config_module=f"configs.{main}", version_base=None):
        return OmegaConf.to_object(compose("config", [*shared, *overrides]))


def rows(clips: ClipSet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, kind in enumerate(clips.kinds):
        found.setdefault(kind, []).append(row)
    return found


def test_windows_have_the_frames_of_their_time_and_the_cameras_of_those_frames(data: Path) -> None:
    clips = clip_set(data, CONFIG)
    found = rows(clips)
    assert {kind: len(windows) for kind, windows in found.items()} == {
        "fast": 1, "plain": 2, "unknown": 1, "unlabelled": 1, "p": 1
    }  # fmt: skip
    for kind, window, first, step in (("plain", 1, 9, 1), ("fast", 0, 0, 2), ("p", 0, 0, 1), ("unlabelled", 0, 0, 1)):
        frames = clips.frames(found[kind][window])
        assert frames.shape == (9, 48, 48, 3)
        shown = frames.astype(float).mean(axis=(1, 2, 3)) / 4
        assert np.abs(shown - (first + step * np.arange(9))).max() < 0.6  # of a frame; H.264 and its colours lose some
    numbers = 9 + torch.arange(0, 9, 4)
    truth = path(20).c2w[numbers]
    torch.testing.assert_close(clips.poses[found["plain"][1]], se3.relative(truth[:1], truth))
    assert clips.captions[found["fast"][0]] == "a blue wall"


def test_lenses_are_those_of_the_cropped_pictures(data: Path) -> None:
    clips = clip_set(data, CONFIG)
    # of 96 columns the middle 48 stay
    expected = torch.tensor([0.6 * 2, 1.2, (0.45 * 96 - 24) / 48, 0.55])
    torch.testing.assert_close(clips.intrinsics[rows(clips)["plain"][0]], expected)
    assert clips.config.horizontal_fov_deg == pytest.approx(2 * np.degrees(np.arctan(0.5 / 1.2)))


def test_only_metric_cameras_label_and_the_share_of_labelled_clips_counts_those_without(data: Path) -> None:
    clips = clip_set(data, CONFIG)
    found = rows(clips)
    assert {kind for kind in found if clips.labelled[found[kind]].all()} == {"fast", "plain", "p"}
    assert torch.equal(clips.poses[found["unknown"][0]], torch.eye(4).expand(3, 4, 4))

    latents = torch.zeros(6, 1, 3, 1, 1)
    for share, number in ((1.0, 4), (0.5, 3), (0.0, 0)):
        batches = LatentBatches(
            clips, latents, TinyVocabularyEncoder(["blue", "wall"]), batch_size=6, labelled_share=share
        )
        assert int(batches.labelled.sum()) == number and not (batches.labelled & ~clips.labelled).any()
        batch = batches(0)
        assert torch.equal(batch.intrinsics, clips.intrinsics[batches.indices(0)])


def test_decoded_shards_are_kept_and_another_manifest_is_decoded_anew(data: Path) -> None:
    first = clip_set(data, CONFIG)
    stamp = (first.folder / "frames_00000.npy").stat().st_mtime_ns
    (first.folder / "records_00001.json").unlink()
    again = clip_set(data, CONFIG)
    assert (again.folder / "frames_00000.npy").stat().st_mtime_ns == stamp
    assert (again.folder / "records_00001.json").exists()
    publish(data, PublishConfig(held_out=0.4))
    other = clip_set(data, CONFIG)
    assert other.folder != first.folder and len(other) < len(first)
    held_out = held_out_set(data, CONFIG)
    assert held_out is not None and len(other) + len(held_out) == len(first)


def test_what_cannot_be_trained_on_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"expected clips of at least 129 frames at 12 a second, found none.*"
        r"the longest has 1.58 s: data.clips.num_latents=5 fits it",
    ):
        clip_set(data, dataclasses.replace(CONFIG, num_latents=33))
    assert rows(clip_set(data, dataclasses.replace(CONFIG, num_latents=5))).keys() == {"plain"}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/manifest.jsonl").touch()
    with pytest.raises(ValueError, match=r"^data.folder: expected clips, found none in .*empty; curate more films"):
        clip_set(tmp_path / "empty", CONFIG)


def test_a_set_that_holds_nothing_out_says_so_and_is_no_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert held_out_set(data, CONFIG) is None
    assert "nothing is held out" in capsys.readouterr().out
    assert preview_scenes(data, CONFIG, 2) is None
    assert "no previews" in capsys.readouterr().out


@pytest.mark.parametrize("per_step", [1, 2, 3, 4, 7, 12])
def test_a_small_set_fills_a_batch_by_repeating_its_clips(data: Path, per_step: int) -> None:
    clips = clip_set(data, CONFIG, 1)
    assert len(clips) == 6
    batches = LatentBatches(clips, torch.zeros(6, 1, 3, 1, 1), TinyVocabularyEncoder(["blue"]), batch_size=per_step)
    seen = torch.stack([batches.indices(step) for step in range(60)])
    assert seen.shape == (60, per_step)
    counts = torch.bincount(seen.flatten(), minlength=6).float()
    assert counts.min() > 0.5 * counts.mean()
    for row in seen:  # nobody comes again before all had their turn
        assert torch.bincount(row, minlength=6).max() <= -(-per_step // 6)
    assert torch.equal(batches.indices(3), seen[3])


@pytest.mark.slow
@pytest.mark.parametrize("is_metric", [True, False])
def test_one_film_trains_a_vae_and_a_world_that_flies(
    tmp_path: Path, is_metric: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = {"scale": 1.0} if is_metric else {}
    add(tmp_path / "data", film(tmp_path, "film", 33, 12.0, camera=path(33), caption="grey fog", **scale))
    publish(tmp_path / "data", PublishConfig(held_out=0.05))
    vae_config = composed(tmp_path, "train_vae", f"out={tmp_path}/vae", "training.num_steps=2")
    assert isinstance(vae_config, TrainVAEConfig)
    assert "held_out_psnr_db" not in load_meta(train_vae(vae_config))
    config = composed(tmp_path, "train", f"out={tmp_path}/run", f"vae={tmp_path}/vae/vae", "training.num_steps=2")
    assert isinstance(config, TrainConfig)
    world = load_world(train(config))
    said = capsys.readouterr().out
    assert "nothing is held out" in said and "no previews" in said
    assert ("all clips are unlabelled" in said) == (not is_metric)
    state, frames = world.start(seeds=[0], prompts=["grey fog"])
    assert frames.shape[-1] == 3 and len(state) == 1


def test_a_film_whose_name_is_not_utf8_is_trained_on_or_named(
    data: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = tmp_path / os.fsdecode(b"odd \xff.mp4")
    (tmp_path / "plain.mp4").rename(source)
    times = torch.arange(20, dtype=torch.float64) / 12
    add(data, ClipRecord(id="odd", source=str(source), times=times, camera=path(20), scale=1.0))
    publish(data, PublishConfig())
    assert "odd" in rows(clip_set(data, CONFIG))
    source.unlink()
    assert "odd" not in rows(clip_set(data, CONFIG))
    assert b"are left out" in capsysbinary.readouterr().out


def test_exif_never_turns_a_picture_that_has_a_camera(data: Path, tmp_path: Path) -> None:
    before = clip_set(data, CONFIG)
    for number in range(9):
        path = tmp_path / "pictures" / f"{number}.png"
        with Image.open(path) as picture:
            exif = picture.getexif()
            exif[0x0112] = 6  # "Rotate by 90 degrees to view."
            picture.save(path, exif=exif)
    before.folder.rename(tmp_path / "before")
    after = clip_set(data, CONFIG)
    row = rows(after)["p"][0]
    assert np.array_equal(after.frames(row), before.frames(row)) and torch.equal(after.intrinsics, before.intrinsics)


def test_training_goes_on_without_films_and_pictures_that_are_gone_or_torn(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = rows(clip_set(data, CONFIG))
    (tmp_path / "plain.mp4").unlink()  # its windows are known to be gone before anything is decoded
    (tmp_path / "unlabelled.mp4").write_bytes((tmp_path / "unlabelled.mp4").read_bytes()[:900])
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    (tmp_path / "data" / "clips").rename(tmp_path / "old")
    clips = clip_set(data, CONFIG)
    assert set(rows(clips)) == set(whole) - {"plain", "unlabelled", "p"}
    assert len(clips) == 2 and clips.frames(1).shape == (9, 48, 48, 3)
    said = capsys.readouterr().out
    assert "3 clips cannot be read and are left out" in said
    for name in ("fast", "unknown"):
        (tmp_path / f"{name}.mp4").unlink()
    with pytest.raises(ValueError, match=r"data.folder: expected clips that can be read, found none"):
        clip_set(data, CONFIG)


@pytest.mark.slow
def test_both_mains_train_on_a_data_set_of_films(tmp_path: Path) -> None:
    for number in range(8):
        record = film(tmp_path, f"film{number}", 33, 12.0, camera=path(33), scale=1.0, caption="grey fog over nowhere")
        add(tmp_path / "data", record)
    publish(tmp_path / "data", PublishConfig(held_out=0.3))

    vae_config = composed(tmp_path, "train_vae", f"out={tmp_path}/vae", "training.num_steps=2")
    assert isinstance(vae_config, TrainVAEConfig)
    train_vae(vae_config)
    run = (f"out={tmp_path}/run", f"vae={tmp_path}/vae/vae", "training.num_steps=3", "num_preview_scenes=2")
    config = composed(tmp_path, "train", *run)
    assert isinstance(config, TrainConfig)
    world = train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(np.isfinite(line["loss"]) for line in lines)
    assert "nowhere" in (world / "world.yaml").read_text()


@pytest.mark.slow
def test_the_shipped_world_goes_on_learning_from_six_clips(tmp_path: Path) -> None:
    for number in range(6):
        caption = f"a red corridor with a bouncing sphere and the word{number}"
        add(tmp_path / "data", film(tmp_path, f"film{number}", 33, 12.0, camera=path(33), scale=1.0, caption=caption))
    publish(tmp_path / "data", PublishConfig(held_out=0.05))
    with initialize_config_module(config_module="configs.train", version_base=None):
        options = ["experiment=finetune", f"data.folder={tmp_path}/data", f"out={tmp_path}/run"]
        small = ["training.num_steps=2", "training.batch_size=1", "training.fit.sample_every=0"]
        small.append("diffusion.channel_weight_power=0")  # measuring the channels takes longest
        config = OmegaConf.to_object(compose("config", [*options, *small, "num_preview_scenes=1"]))
    assert isinstance(config, TrainConfig)
    folder, shipped = train(config), world_folder("tiny")
    old, new = read_world_config(shipped), read_world_config(folder)
    words = old.text_encoder.vocabulary
    assert new.text_encoder.vocabulary[: len(words)] == words
    assert {"corridor", "the"} < set(new.text_encoder.vocabulary[len(words) :])
    for name in (
        "sampler",
        "opening",
        "context_latents",
        "memory_latents",
        "memory_capacity",
        "height",
        "width",
        "fps",
    ):
        assert getattr(new, name) == getattr(old, name), name
    vaes = [load_component(where / "vae", VideoVAEConfig, VideoVAE) for where in (shipped, folder)]
    assert weights_fingerprint(vaes[0]) == weights_fingerprint(vaes[1])
    dits = [load_component(where / "dit", VideoDiTConfig, VideoDiT).parameters() for where in (shipped, folder)]
    before, after = (torch.cat([parameter.detach().flatten() for parameter in dit]) for dit in dits)
    change = float((after - before).norm() / before.norm())
    assert 0 < change < 0.05  # it has learned, and it has not begun anew
    env = gym.make(cc2env.ENV_ID, world=str(folder))
    env.reset(seed=0, options={"prompt": "the red corridor"})
    clip, *_ = env.step(np.zeros(env.action_space.shape, np.float32))
    assert clip.std() > 0
