"""The curate command: one clear line for bad input, and import, export and the rest end to end."""

import re
import sys
from pathlib import Path

import pytest
import torch

from model.cli import curate
from model.curation.ledger import read_ledger
from model.data.manifest import Manifest
from model.data.video_io import write_image, write_video
from model.geometry import se3
from model.geometry.colmap_text import write_colmap_text
from model.geometry.trajectory import CameraTrajectory


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["curate", *map(str, words)])
    curate.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["videos=nowhere", "out=data"], "error: videos: expected films such as .mp4"),
        (["out=data"], "error: videos: expected a value, got none"),
        (["import", "kind=photos", "path=a", "out=b"], "error: kind: expected films, realestate10k, colmap or"),
        (["export", "kind=usd", "data=a", "out=b"], "error: kind: expected realestate10k or colmap"),
        (["pictures", "film=nowhere.mp4"], "error: nowhere.mp4: expected a file"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}"):
        call(monkeypatch, *words)


def test_films_and_cameras_meet_in_one_data_set_and_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("av", "cv2", "scenedetect", "joblib"):
        pytest.importorskip(module)
    noise = torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "films" / "grey.mp4", (60 + 20 * noise).byte().expand(40, 48, 80, 3).contiguous(), 12)
    lens = torch.tensor([0.8, 1.2, 0.5, 0.5]).expand(5, 4)
    c2w = se3.exp(torch.arange(5)[:, None] * torch.tensor([0.1, 0, 0, 0, 0, 0]))
    write_colmap_text(tmp_path / "scene" / "sparse" / "0", CameraTrajectory(c2w, lens), 240, 320)
    for number in range(5):
        write_image(tmp_path / "scene" / "images" / f"{number:06d}.png", torch.zeros(240, 320, 3, dtype=torch.uint8))
    out = f"out={tmp_path}/data"
    call(monkeypatch, "import", "kind=films", f"path={tmp_path}/films", out, "shots.height=48", "shots.width=80")
    call(monkeypatch, "import", "kind=colmap", f"path={tmp_path}/scene", out, "scale=3.0", "fps=12")
    assert "2 clips, 1 of them with metric poses" in capsys.readouterr().out
    records = {record.camera is not None: record for record in Manifest(tmp_path / "data")}
    assert len(records[False]) == 40 and records[True].scale == 3.0
    assert {line.verdict for line in read_ledger(tmp_path / "data" / "ledger.jsonl")} == {"kept", "unlabelled"}
    call(monkeypatch, "export", f"data={tmp_path}/data", "kind=realestate10k", f"out={tmp_path}/poses")
    (written,) = (tmp_path / "poses").iterdir()
    assert written.name.startswith("scene-") and written.suffix == ".txt"
