"""Existing data sets: imported once, with distinct ids, refused by name, and exported again."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.curation.exchange import DataSetConfig, ImportKind, export_clips, import_clips, read_data_set
from model.curation.ledger import read_ledger
from model.curation.publish import PublishConfig, publish
from model.data.manifest import ClipRecord, Manifest
from model.data.video_io import write_image
from model.geometry import se3
from model.geometry.colmap_text import write_colmap_text
from model.geometry.trajectory import CameraTrajectory

LENS = torch.tensor([0.8, 1.2, 0.5, 0.5])
FRAMES = 9


def forward(turn: float) -> CameraTrajectory:
    """Two metres straight ahead, while the camera turns about its vertical by so many degrees."""
    share = torch.arange(FRAMES) / (FRAMES - 1)
    zero = torch.zeros(FRAMES)
    c2w = se3.exp(torch.stack([zero, zero, zero, zero, torch.deg2rad(turn * share), zero], dim=-1))
    c2w[:, 2, 3] = 2 * share
    return CameraTrajectory(c2w, LENS.expand(FRAMES, 4))


def pictures(folder: Path, height: int = 24, width: int = 36) -> None:
    for number in range(FRAMES):
        write_image(folder / f"{number:06d}.png", torch.full((height, width, 3), 20 * number, dtype=torch.uint8))


def colmap_scene(folder: Path, turn: float = 30.0) -> Path:
    write_colmap_text(folder / "sparse" / "0", forward(turn), 24, 36)
    pictures(folder / "images")
    return folder


def nerfstudio_scene(folder: Path, **values: object) -> Path:
    pictures(folder / "images")
    frames = []
    for number in range(FRAMES):
        pose = torch.eye(4)
        pose[0, 3] = 0.1 * number
        frames.append({"file_path": f"images/{number:06d}.png", "transform_matrix": pose.tolist()})
    lens = {"w": 36, "h": 24, "fl_x": 28.8, "fl_y": 28.8, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(lens | values))
    return folder


def add(out: Path, kind: ImportKind, path: Path, **settings: object) -> None:
    import_clips(out, kind, *read_data_set(DataSetConfig(kind=kind, path=str(path), **settings)))  # type: ignore[arg-type]
    publish(out, PublishConfig())


def clips(out: Path) -> list[ClipRecord]:
    return list(Manifest(out))


def verdicts(out: Path) -> list[str]:
    return sorted(line.verdict for line in read_ledger(out / "ledger.jsonl"))


def test_a_scene_is_imported_once_and_exported_again(tmp_path: Path) -> None:
    colmap_scene(tmp_path / "scenes" / "one")
    (tmp_path / "scenes" / "two" / "sparse").mkdir(parents=True)
    for file in ("cameras.txt", "images.txt"):
        (tmp_path / "scenes" / "two" / "sparse" / file).write_text("nonsense\n")
    for _ in range(2):
        add(tmp_path / "data", "colmap", tmp_path / "scenes", fps=12.0, scale=2.0)
    (record,) = clips(tmp_path / "data")
    assert record.id.startswith("one-") and record.scale == 2.0
    assert record.source == str(tmp_path / "scenes" / "one" / "images")
    lines = read_ledger(tmp_path / "data" / "ledger.jsonl")
    assert [(line.id.split("-")[0], line.verdict) for line in lines] == [("one", "kept"), ("two", "rejected")]
    assert export_clips(tmp_path / "data", "colmap", tmp_path / "colmap", 240, 320) == 1
    assert export_clips(tmp_path / "data", "realestate10k", tmp_path / "poses") == 1
    records, rejected = read_data_set(DataSetConfig(kind="realestate10k", path=str(tmp_path / "poses")))
    assert not rejected and records[0].camera is not None and record.camera is not None
    assert torch.allclose(records[0].camera.c2w, record.camera.c2w, atol=1e-5)
    assert float(record.camera.c2w[-1, 2, 3]) == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize(
    "names", [("映画", "写真"), ("a b", "a_b"), ("x/one", "y/one"), ("x/y", "x_y"), ("a", "a."), ("-", "_")]
)
def test_scenes_whose_names_look_alike_stay_apart(names: tuple[str, str], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        nerfstudio_scene(tmp_path / "scenes" / name, fl_x=28.8 + number)
        nerfstudio_scene(tmp_path / "torn" / name, frames=[])
    add(tmp_path / "data", "nerfstudio", tmp_path / "scenes")
    add(tmp_path / "data", "nerfstudio", tmp_path / "torn")
    lenses = sorted(float(r.camera.intrinsics[0, 0]) for r in clips(tmp_path / "data") if r.camera is not None)
    assert lenses == pytest.approx([0.8, 29.8 / 36])
    assert verdicts(tmp_path / "data") == ["kept", "kept", "rejected", "rejected"]


def test_scenes_of_one_name_from_different_folders_and_kinds_stay_apart(tmp_path: Path) -> None:
    add(tmp_path / "data", "colmap", colmap_scene(tmp_path / "a" / "one"))
    add(tmp_path / "data", "colmap", colmap_scene(tmp_path / "b" / "one", turn=10.0))
    add(tmp_path / "data", "nerfstudio", nerfstudio_scene(tmp_path / "c" / "one"))
    assert len({clip.id for clip in clips(tmp_path / "data")}) == 3


def test_an_id_does_not_depend_on_where_the_data_set_lies(tmp_path: Path) -> None:
    colmap_scene(tmp_path / "here" / "set" / "one")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    sets = [DataSetConfig(kind="colmap", path=str(tmp_path / place / "set")) for place in ("here", "there")]
    ids = [read_data_set(found)[0][0].id for found in sets]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("settings", "change"),
    [({"scale": 2.0}, "scale was 1.0, is 2.0"), ({"fps": 6.0}, "lasted 0.666667 s, its 9 last 1.33333 s")],
)
def test_a_second_import_with_other_settings_is_refused_and_writes_nothing(
    settings: dict[str, float], change: str, tmp_path: Path
) -> None:
    scenes = tmp_path / "scenes"
    nerfstudio_scene(scenes / "one")
    add(tmp_path / "data", "nerfstudio", scenes, fps=12.0, scale=1.0)
    nerfstudio_scene(scenes / "another")
    before = sorted(tmp_path.glob("data/work/*"))
    with pytest.raises(ValueError, match=f"^out: expected the settings .* was begun with, got .*one-.*{change}"):
        add(tmp_path / "data", "nerfstudio", scenes, **({"fps": 12.0, "scale": 1.0} | settings))
    assert sorted(tmp_path.glob("data/work/*")) == before


def test_a_clip_that_was_kept_is_not_silently_dropped_by_stricter_settings(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path / "scenes" / "bent", k1=0.1)
    add(tmp_path / "data", "nerfstudio", scene, ignore_distortion=True)
    with pytest.raises(ValueError, match=r"^out: expected the settings .* was kept, is rejected: .*distortion"):
        add(tmp_path / "data", "nerfstudio", scene)


def test_a_clip_that_was_rejected_gets_another_try(tmp_path: Path) -> None:
    scene = nerfstudio_scene(tmp_path / "scenes" / "bent", k1=0.1)
    for ignore in (False, True):
        add(tmp_path / "data", "nerfstudio", scene, ignore_distortion=ignore)
        assert verdicts(tmp_path / "data") == [("kept" if ignore else "rejected")]


def test_several_models_of_a_scene_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    colmap_scene(tmp_path / "scenes" / "two models")
    write_colmap_text(tmp_path / "scenes" / "two models" / "sparse" / "1", forward(10.0), 24, 36)
    colmap_scene(tmp_path / "scenes" / "one model")
    records, rejected = read_data_set(DataSetConfig(kind="colmap", path=str(tmp_path / "scenes")))
    assert [record.id.split("-")[0] for record in records] == ["one_model"]
    assert "two models" in str(rejected) and "expected one COLMAP model, got 2" in str(rejected)
    (record,), _ = read_data_set(
        DataSetConfig(kind="colmap", path=str(tmp_path / "scenes" / "two models" / "sparse" / "1"))
    )
    assert record.source == str(tmp_path / "scenes" / "two models" / "images")


def test_settings_without_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps: expected no such setting for realestate10k"):
        read_data_set(DataSetConfig(kind="realestate10k", path=str(tmp_path), fps=12.0))
    with pytest.raises(ValueError, match="ignore_distortion: expected no such setting for colmap"):
        read_data_set(DataSetConfig(kind="colmap", path=str(tmp_path), ignore_distortion=True))
    for name, number in (("fps", 0.0), ("fps", float("nan")), ("scale", -1.0), ("scale", float("inf"))):
        with pytest.raises(ValueError, match=f"{name}: expected a positive number"):
            read_data_set(DataSetConfig(kind="nerfstudio", path=str(tmp_path), **{name: number}))
    with pytest.raises(FileNotFoundError, match=r"expected transforms.json in or below"):
        read_data_set(DataSetConfig(kind="nerfstudio", path=str(tmp_path)))
    with pytest.raises(ValueError, match="data: expected a manifest with cameras"):
        export_clips(tmp_path, "realestate10k", tmp_path / "out")
