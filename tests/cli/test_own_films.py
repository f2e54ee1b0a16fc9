"""The page "Train on your films", command by command, on a small base of random weights."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from model.cli import train as train_module
from model.data.clips import ClipSet, ClipSetConfig, render_clip_set
from model.data.manifest import ClipRecord
from model.data.realestate10k import write_realestate10k_folder
from model.data.video_io import write_video
from model.geometry.trajectory import CameraTrajectory
from model.world.open import memory_need

for name in ("cv2", "av", "joblib", "ftfy", "peft", "diffusers"):
    pytest.importorskip(name)

SIZE = ("data.clips.num_latents=6", "data.clips.height=32", "data.clips.width=32")
SHORT = (
    "num_preview_scenes=1", "diffusion.num_new=2", "sampler.num_steps=1", "opening.num_steps=1", "lora.rank=2",
    "training.fit.accumulation=2", "training.fit.sample_every=0", "training.fit.checkpoint_steps=1",
    "+diffusion.context_shares={0:0.2,1:0.4,2:0.4,6:0}",
)  # fmt: skip


def call(monkeypatch: pytest.MonkeyPatch, command: str, *words: object) -> None:
    """Runs `python -m COMMAND WORDS`."""
    monkeypatch.setattr(sys, "argv", [command, *map(str, words)])
    importlib.import_module(command).main()


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """`media` with five films of rendered scenes, `poses` with their cameras."""
    rendered = ClipSetConfig(num_clips=5, num_latents=6, height=40, width=40, fps=12.0, shard_size=4)
    clips: ClipSet = render_clip_set(tmp_path / "rendered", rendered, num_workers=1)
    records = []
    for row in range(len(clips)):
        write_video(tmp_path / f"media/film{row}.mp4", torch.from_numpy(clips.frames(row).copy()), 12.0)
        cameras = CameraTrajectory(clips.poses[row], clips.intrinsics[row].expand(6, 4)).upsample(4)
        times = torch.arange(21, dtype=torch.float64) / 12
        source = str(tmp_path / f"media/film{row}.mp4")
        records.append(ClipRecord(id=f"film{row}", source=source, times=times, camera=cameras, scale=1.0))
    write_realestate10k_folder(tmp_path / "poses", records)
    return tmp_path


@pytest.mark.slow
def test_films_are_imported_encoded_trained_on_flown_and_evaluated(
    films: Path, wan_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, shards, run = tmp_path / "data", tmp_path / "shards", tmp_path / "run"
    poses = (f"path={films}/poses", f"media={films}/media", "scale=1")
    call(monkeypatch, "model.cli.curate", "import", "kind=realestate10k", *poses, f"out={data}", "publish.held_out=0.2")
    encode = (f"base={wan_base}", f"data.folder={data}", f"out={shards}", "clips_per_file=3", "data.num_workers=1")
    call(monkeypatch, "model.cli.encode", *encode, *SIZE)
    index = json.loads((shards / "index.json").read_text())
    assert index["sizes"] == [3, 1]
    kept = (shards / "latents_00000.tar").read_bytes()
    (shards / "latents_00001.tar").unlink()  # killed on the way: only what is missing is made
    call(monkeypatch, "model.cli.encode", *encode, *SIZE)
    assert (shards / "latents_00000.tar").read_bytes() == kept and (shards / "latents_00001.tar").exists()

    train = ("experiment=wan_lora", f"base={wan_base}", f"data.shards=[{shards}]", f"data.held_out={data}")
    with pytest.raises(SystemExit, match=r"^error: data.clips.height, data.clips.width: expected one of \[\(32, 32\)"):
        call(monkeypatch, "model.cli.train", *train, f"out={tmp_path}/other", *SHORT)
    call(monkeypatch, "model.cli.train", *train, f"out={run}", "training.num_steps=2", *SIZE[1:], *SHORT)
    call(monkeypatch, "model.cli.train", *train, f"out={run}", "training.num_steps=3", *SIZE[1:], *SHORT)
    assert len((run / "curve.jsonl").read_text().splitlines()) == 3
    previews = [json.loads(line) for line in (run / "samples/curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in previews] == [2, 3] and (run / "samples/step_000003.png").exists()
    with pytest.raises(SystemExit, match=r"^error: data.held_out: expected a data set of model.cli.curate, found no"):
        held_out = f"data.held_out={tmp_path}/media"
        call(monkeypatch, "model.cli.train", *train[:3], held_out, f"out={tmp_path}/other", *SIZE[1:], *SHORT)
    for name, change, message in (
        ("captions", ["other films"], r"^error: data\.shards: expected the one that .* was trained for"),
        ("vae", "0", r"^error: data\.shards: .* expected clips encoded by .*, got another base's"),
    ):
        (shards / "index.json").write_text(json.dumps({**index, name: change}))
        folder = run if name == "captions" else tmp_path / "other"
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, "model.cli.train", *train, f"out={folder}", "training.num_steps=4", *SIZE[1:], *SHORT)
    (shards / "index.json").write_text(json.dumps(index))

    call(monkeypatch, "agents.explore", f"world={run}/world", f"out={tmp_path}/flight", "num_clips=1")
    assert list((tmp_path / "flight").glob("*.mp4"))
    scenes = ("num_scenes=1", "num_clips=1", "batch_size=1")
    call(monkeypatch, "model.cli.evaluate", "oracle", f"world={run}/world", *scenes, f"out={tmp_path}/oracle.json")
    assert json.loads((tmp_path / "oracle.json").read_text())["summary"]


def test_too_little_memory_is_said_before_weights_are_read(
    wan_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_need, "_available", lambda device: 100_000)
    monkeypatch.setattr(train_module, "starting_dit", None)
    words = ("experiment=wan_phase1", f"base={wan_base}", "data.folder=x", f"out={tmp_path}/run")
    with pytest.raises(SystemExit, match=r"^error: device: expected 0.0 GB on cpu .weights, .* got 0.0; train"):
        call(monkeypatch, "model.cli.train", *words)
