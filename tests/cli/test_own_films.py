"""The page "Train on your films", command by command, on a small base of random weights."""

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from model.cli import curate as curate_module
from model.cli import train as train_module
from model.curation.proof import PlantedDepthTools, ProofConfig
from model.curation.truth_films import TruthFilmsConfig, render_truth_films
from model.data.manifest import Manifest
from model.world.open import memory_need

for name in ("cv2", "av", "joblib", "ftfy", "peft", "diffusers", "scenedetect", "pycolmap"):
    pytest.importorskip(name)

SIZE = ("data.clips.num_latents=6", "data.clips.height=32", "data.clips.width=32")
PAGE = Path(train_module.__file__).parents[1] / "training/own_films.md"
SHORT = (
    "num_preview_scenes=1", "diffusion.num_new=2", "sampler.num_steps=1", "opening.num_steps=1", "lora.rank=2",
    "training.fit.accumulation=2", "training.fit.sample_every=0", "training.fit.checkpoint_steps=1",
    "+diffusion.context_shares={0:0.2,1:0.4,2:0.4,6:0}",
)  # fmt: skip


CALLED: list[str] = []


def call(monkeypatch: pytest.MonkeyPatch, command: str, *words: object) -> None:
    """Runs `python -m COMMAND WORDS`."""
    CALLED.append(command)
    monkeypatch.setattr(sys, "argv", [command, *map(str, words)])
    importlib.import_module(command).main()


SOLVED = (0, 4, 5)  # scenes in whose films structure from motion finds the camera, if it knows the lens
SHOTS = ProofConfig().curation().shots
CURATED = (
    *(f"shots.{name}={getattr(SHOTS, name)}" for name in ("height", "width", "min_frames", "max_frames")),
    "steps.horizontal_fov_deg=75", "steps.check_halves=false",
)  # fmt: skip


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Films of rendered scenes with their captions; the true depth, with errors, stands for a depth network."""
    for seed in SOLVED:
        render_truth_films(tmp_path / "rendered", TruthFilmsConfig(num_films=1, first_seed=seed))
    shots = json.dumps(dataclasses.asdict(SHOTS))
    tools = PlantedDepthTools(
        str(tmp_path / "rendered"), noise=0.05, bias=0.01, outliers=0.1, lens_noise=None, shots=shots
    )
    monkeypatch.setattr(curate_module, "build_tools", tools)
    return tmp_path / "rendered/films"


@pytest.mark.slow
def test_films_are_curated_encoded_trained_on_flown_and_evaluated(
    films: Path, wan_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CALLED.clear()
    data, shards, run = tmp_path / "data", tmp_path / "shards", tmp_path / "run"
    # the least share: one film of three, whichever their names choose
    call(monkeypatch, "model.cli.curate", f"videos={films}", f"out={data}", "publish.held_out=1e-9", *CURATED)
    verdicts = [json.loads(line)["verdict"] for line in (data / "ledger.jsonl").read_text().splitlines()]
    assert verdicts == ["kept"] * 3
    assert (len(Manifest(data)), len(Manifest(data / "held_out"))) == (2, 1)
    assert all(record.scale is not None and record.camera is not None for record in Manifest(data))
    encode = (f"base={wan_base}", f"data.folder={data}", f"out={shards}", "clips_per_file=1", "data.num_workers=1")
    call(monkeypatch, "model.cli.encode", *encode, *SIZE)
    index = json.loads((shards / "index.json").read_text())
    assert index["sizes"] == [1, 1]
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
        held_out = f"data.held_out={films}"
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
    on_the_page = re.findall(r"^python -m (\S+)", PAGE.read_text().split("```")[1], re.MULTILINE)
    assert list(dict.fromkeys(CALLED)) == on_the_page


def test_too_little_memory_is_said_before_weights_are_read(
    wan_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_need, "_available", lambda device: 100_000)
    monkeypatch.setattr(train_module, "starting_dit", None)
    words = ("experiment=wan_phase1", f"base={wan_base}", "data.folder=x", f"out={tmp_path}/run")
    with pytest.raises(SystemExit, match=r"^error: device: expected 0.0 GB on cpu .weights 0.0, .* got 0.0; train"):
        call(monkeypatch, "model.cli.train", *words)
