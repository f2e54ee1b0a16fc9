"""The manifest: records come back as they went in, and survive a kill at any moment."""

from pathlib import Path

import pytest
import torch

from model.data.manifest import ClipRecord, Manifest
from model.geometry.camera import default_intrinsics
from model.geometry.primitives import spiral
from model.geometry.trajectory import CameraTrajectory


def record(name: str, with_camera: bool = True) -> ClipRecord:
    times = torch.tensor([0.5, 0.75, 1.1], dtype=torch.float64)
    path = spiral(1.0, 1.0, 3)
    camera = CameraTrajectory(path.c2w, default_intrinsics().expand(3, 4)) if with_camera else None
    return ClipRecord(
        id=name,
        source="films/ä\u2028b.mp4",
        times=times,
        camera=camera,
        scale=2.5 if with_camera else None,
        caption="a red ball",
        scores={"flow": 0.25},
        provenance={"reader": "test"},
    )


def test_records_come_back_as_they_went_in(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.append(record("a"))
    manifest.append(record("b", with_camera=False))
    labelled, unlabelled = Manifest(tmp_path)
    assert labelled.camera is not None and record("a").camera is not None
    assert torch.equal(labelled.camera.c2w, record("a").camera.c2w)  # type: ignore[union-attr]
    assert torch.equal(labelled.times, record("a").times)
    assert (labelled.scale, labelled.caption, labelled.scores["flow"]) == (2.5, "a red ball", 0.25)
    assert labelled.span == (0.5, 1.1) and labelled.source == "films/ä\u2028b.mp4"
    assert unlabelled.camera is None and unlabelled.id == "b"


def test_a_torn_line_is_no_record_and_is_cut_off_by_the_next(tmp_path: Path) -> None:
    Manifest(tmp_path).append(record("a"))
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write(b'{"id": "torn", "sour')
    manifest = Manifest(tmp_path)
    assert manifest.ids == ("a",)
    manifest.append(record("b"))
    assert [r.id for r in Manifest(tmp_path)] == ["a", "b"]


def test_replacing_keeps_only_what_is_given(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    for name in "abc":
        manifest.append(record(name))
    manifest.replace([r for r in manifest if r.id != "b"])
    assert Manifest(tmp_path).ids == ("a", "c")
    assert sorted(path.stem for path in (tmp_path / "cameras").iterdir()) == ["a", "c"]


def test_a_clip_twice_is_refused(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.append(record("a"))
    with pytest.raises(ValueError, match="twice"):
        manifest.append(record("a"))


def test_missing_arrays_are_told_by_clip(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.append(record("a"))
    (tmp_path / "cameras" / "a.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="arrays of clip a"):
        list(manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "../a"}, "id: expected"),
        ({"times": torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)}, "increasing"),
        ({"files": ("one.png",)}, "files: expected 3"),
        ({"scale": -1.0}, "scale: expected"),
        ({"camera": None}, "scale: expected a positive number and a camera"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    values = {name: getattr(record("a"), name) for name in ("id", "source", "times", "files", "camera", "scale")}
    with pytest.raises(ValueError, match=message):
        ClipRecord(**(values | change))  # type: ignore[arg-type]
