"""The manifest: records come back as they went in, and survive a kill at any moment."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.data.manifest import ClipRecord, Manifest
from model.geometry.camera import default_intrinsics
from model.geometry.primitives import orbit
from model.geometry.trajectory import CameraTrajectory


def record(name: str, with_camera: bool = True) -> ClipRecord:
    times = torch.tensor([0.5, 0.75, 1.1], dtype=torch.float64)
    path = orbit(1.0, 1.0, 3)
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


def test_missing_arrays_are_named_by_clip(tmp_path: Path) -> None:
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


def spoil(folder: Path, **changes: object) -> None:
    Manifest(folder).append(record("a"))
    values = json.loads((folder / "manifest.jsonl").read_text()) | changes
    (folder / "manifest.jsonl").write_text(json.dumps(values) + "\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "../a"),
        ("id", ".."),
        ("id", "a/b"),
        ("id", "/etc/passwd"),
        ("id", 3),
        ("id", None),
        ("id", ""),
        ("source", 3),
        ("source", None),
        ("files", "abc"),
        ("files", [1, 2, 3]),
        ("files", {"a": 1}),
        ("scale", "2"),
        ("scale", True),
        ("scale", float("nan")),
        ("scale", 10**400),
        ("caption", ["a"]),
        ("scores", [1]),
        ("scores", {"flow": "much"}),
        ("provenance", "film"),
        ("provenance", {"reader": 1}),
        ("more", 1),
    ],
)
def test_a_line_of_wrong_types_is_one_error_when_the_folder_is_opened(name: str, value: object, tmp_path: Path) -> None:
    spoil(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=r"manifest.jsonl, line 1: expected a clip as a JSON object, got: "):
        Manifest(tmp_path)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"3", b"null", b"[]", b"9" * 10_000])
def test_a_line_that_is_no_object_is_one_error(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"manifest.jsonl, line 1: expected a clip as a JSON object, got: ") as raised:
        Manifest(tmp_path)
    assert len(str(raised.value)) < 1000


def test_no_pipe_is_waited_for_and_no_id_is_there_twice(tmp_path: Path) -> None:
    spoil(tmp_path)
    line = (tmp_path / "manifest.jsonl").read_text()
    (tmp_path / "manifest.jsonl").write_text(2 * line)
    with pytest.raises(ValueError, match="expected different ids, got 'a' twice"):
        Manifest(tmp_path)
    (tmp_path / "manifest.jsonl").write_text(line)
    (tmp_path / "cameras" / "a.safetensors").unlink()
    os.mkfifo(tmp_path / "cameras" / "a.safetensors")
    with pytest.raises(ValueError, match="arrays of clip a"):
        list(Manifest(tmp_path))
    (tmp_path / "manifest.jsonl").unlink()
    os.mkfifo(tmp_path / "manifest.jsonl")
    with pytest.raises(ValueError, match="expected a file"):
        Manifest(tmp_path)


TIMES = torch.tensor([0.5, 0.75, 1.1], dtype=torch.float64)
POSES, LENS = torch.eye(4).repeat(3, 1, 1), torch.ones(3, 4)


@pytest.mark.parametrize(
    "arrays",
    [
        {"c2w": POSES, "intrinsics": LENS},
        {"times": TIMES, "c2w": POSES},
        {"times": TIMES.float(), "c2w": POSES, "intrinsics": LENS},
        {"times": TIMES[:2], "c2w": POSES, "intrinsics": LENS},
        {"times": TIMES[0], "c2w": POSES, "intrinsics": LENS},
        {"times": TIMES * float("nan"), "c2w": POSES, "intrinsics": LENS},
        {"times": TIMES, "c2w": POSES.int(), "intrinsics": LENS},
        {"times": TIMES, "c2w": POSES[:, :3], "intrinsics": LENS},
        {"times": TIMES, "c2w": 2 * POSES, "intrinsics": LENS},
        {"times": TIMES, "c2w": POSES, "intrinsics": 0 * LENS},
        {"times": TIMES, "c2w": POSES, "intrinsics": float("nan") * LENS},
        {"times": TIMES, "c2w": POSES, "intrinsics": LENS[:, :3]},
        {"times": TIMES, "c2w": POSES, "intrinsics": LENS, "more": LENS},
    ],
)
def test_wrong_arrays_are_one_error_that_names_the_clip(arrays: dict[str, torch.Tensor], tmp_path: Path) -> None:
    spoil(tmp_path)
    save_file(
        {name: array.clone().contiguous() for name, array in arrays.items()}, tmp_path / "cameras" / "a.safetensors"
    )
    with pytest.raises(ValueError, match="expected the arrays of clip a, got: "):
        list(Manifest(tmp_path))


def test_a_films_name_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    odd = dataclasses.replace(record("a"), source=os.fsdecode(b"films/\xff\xe9.mp4"))
    Manifest(tmp_path).append(odd)
    assert [os.fsencode(r.source) for r in Manifest(tmp_path)] == [b"films/\xff\xe9.mp4"]
