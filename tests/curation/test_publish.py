"""The whole set: capped categories, films held out whole, a ledger that says why, in any order of films."""

from pathlib import Path

import pytest
import torch

from model.curation.film_folder import FilmFolder
from model.curation.ledger import LedgerLine, read_ledger
from model.curation.publish import HELD_OUT, PublishConfig, held_out_films, ledger_table, publish
from model.data.manifest import ClipRecord, Manifest
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

LENS = torch.tensor([0.8, 1.2, 0.5, 0.5])


def add(out: Path, name: str, turn: float | None) -> None:
    times = torch.arange(9, dtype=torch.float64) / 12
    camera = None if turn is None else CameraTrajectory(forward(turn), LENS.expand(9, 4))
    record = ClipRecord(id=f"{name}_000_000", source=f"{name}.mp4", times=times, camera=camera, scale=camera and 1.0)
    verdict = "unlabelled" if turn is None else "kept"
    with FilmFolder(out / "work" / name) as film:
        film.add(LedgerLine(id=record.id, source=record.source, verdict=verdict, step="scale"), record)
        film.finish()


def forward(turn: float) -> torch.Tensor:
    """Two metres straight ahead, while the camera turns about its vertical by so many degrees."""
    share = torch.arange(9) / 8
    zero = torch.zeros(9)
    c2w = se3.exp(torch.stack([zero, zero, zero, zero, torch.deg2rad(turn * share), zero], dim=-1))
    c2w[:, 2, 3] = 2 * share
    return c2w


def test_a_full_category_keeps_its_most_important_paths_and_the_ledger_says_so(tmp_path: Path) -> None:
    for name, turn in {"a": 0.0, "b": 40.0, "c": 20.0, "d": None}.items():
        add(tmp_path, name, turn)
    lines_written = publish(tmp_path, PublishConfig(cap=2))
    assert Manifest(tmp_path).ids == ("b_000_000", "c_000_000", "d_000_000")
    lines = {line.id: line for line in read_ledger(tmp_path / "ledger.jsonl")}
    assert lines["a_000_000"].verdict == "rejected" and lines["a_000_000"].step == "balance"
    assert "more than 2 paths are forward" in lines["a_000_000"].reason
    assert lines["d_000_000"].verdict == "unlabelled"
    assert (tmp_path / "balance.png").stat().st_size > 1000
    assert "| rejected | balance | 1 |" in ledger_table(lines_written)
    publish(tmp_path, PublishConfig(cap=0))  # changed its mind: nothing was lost
    assert len(Manifest(tmp_path)) == 4


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    turns = {"a": 0.0, "b": 40.0, "c": 20.0}
    for folder, names in (("1", "abc"), ("2", "cab")):
        for name in names:
            add(tmp_path / folder, name, turns[name])
        publish(tmp_path / folder, PublishConfig(cap=2))
    for file in ("manifest.jsonl", "ledger.jsonl", "cameras/b_000_000.safetensors"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_films_are_held_out_whole_and_stay_on_their_side(tmp_path: Path) -> None:
    names = [f"film{k}" for k in range(20)]
    for name in names:
        add(tmp_path, name, 0.0)
    publish(tmp_path, PublishConfig(held_out=0.3))
    training, held_out = Manifest(tmp_path).ids, Manifest(tmp_path / HELD_OUT).ids
    assert len(training) + len(held_out) == 20 and not set(training) & set(held_out)
    assert 2 <= len(held_out) <= 12
    assert held_out_films(names, 0.3) <= held_out_films([*names, "another"], 0.5)
    assert len(held_out_films(names[:2], 1e-9)) == 1 and not held_out_films(names, 0.0)
    publish(tmp_path, PublishConfig(held_out=0.0))
    assert len(Manifest(tmp_path)) == 20 and len(Manifest(tmp_path / HELD_OUT)) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cap": -1}, r"^publish.cap: expected 0 \(all\) or more, got -1"),
        ({"held_out": 1.0}, r"^publish.held_out: expected a share of at least 0 and below 1, got 1.0"),
        ({"held_out": float("nan")}, r"^publish.held_out: expected"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_work(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PublishConfig(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [1e-9, 0.05, 0.5, 0.999])
@pytest.mark.parametrize(("num_kept", "num_rejected"), [(1, 0), (1, 5), (2, 5), (3, 0)])
def test_some_films_with_clips_always_stay_and_of_two_or_more_one_is_held_out(
    tmp_path: Path, share: float, num_kept: int, num_rejected: int
) -> None:
    for k in range(num_kept):
        add(tmp_path, f"kept{k}", 0.0)
    for k in range(num_rejected):
        with FilmFolder(tmp_path / "work" / f"rejected{k}") as film:
            film.add(LedgerLine(id=f"rejected{k}", source="", verdict="rejected", step="poses", reason="too few"))
            film.finish()
    lines_written = publish(tmp_path, PublishConfig(held_out=share))
    training, held_out = len(Manifest(tmp_path)), len(Manifest(tmp_path / HELD_OUT))
    assert training + held_out == num_kept and training >= 1 and (held_out >= 1) == (num_kept > 1)
    assert len(lines_written) == num_kept + num_rejected
