"""The ledger and a film's folder: every whole line survives a kill, and nothing is there twice."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from model.curation.film_folder import FilmFolder
from model.curation.films import find_films
from model.curation.ledger import Ledger, LedgerLine, Verdict, read_ledger, write_ledger
from model.data.manifest import ClipRecord


def line(name: str, verdict: Verdict = "rejected", reason: str = "") -> LedgerLine:
    return LedgerLine(
        id=name,
        source="a.mp4",
        verdict=verdict,
        step="motion",
        reason=reason,
        numbers={"motion.speed": 0.25},
        seconds={"motion": 1.5},
    )


def record(name: str) -> ClipRecord:
    return ClipRecord(id=name, source="a.mp4", times=torch.arange(3, dtype=torch.float64))


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    lines = [line("a"), line("b", "kept"), line("c", reason="a film\u2028called “Ü\n”")]
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for each in lines:
        ledger.append(each)
    assert read_ledger(ledger.path) == list(ledger) == lines
    write_ledger(tmp_path / "other.jsonl", lines)
    assert (tmp_path / "other.jsonl").read_bytes() == ledger.path.read_bytes()


@pytest.mark.parametrize("torn", [1, 10, 40])
def test_a_torn_last_line_is_no_line_and_makes_room_for_the_next(tmp_path: Path, torn: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(line("a"))
    with ledger.path.open("ab") as file:
        file.write(line("b").encode()[:torn])
    again = Ledger(ledger.path)
    assert "b" not in again
    again.append(line("c"))
    assert [each.id for each in read_ledger(ledger.path)] == ["a", "c"]


def test_a_clip_has_one_line_and_a_line_a_known_verdict(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(line("a"))
    with pytest.raises(ValueError, match="'a' twice"):
        ledger.append(line("a"))
    ledger.path.write_bytes(line("b").encode().replace(b"rejected", b"perhaps"))
    with pytest.raises(ValueError, match=r"line 1: expected a line of a ledger.*perhaps"):
        Ledger(ledger.path)
    ledger.path.write_text('{"id": "a"}\n')
    with pytest.raises(ValueError, match="line 1: expected a line of a ledger"):
        Ledger(ledger.path)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"\xff",
        b"3",
        b"{}",
        b'{"id": 1, "source": "a", "verdict": "kept", "step": "read", "reason": "", "numbers": {}, "seconds": {}}',
        b'{"id": "a", "source": "a", "verdict": [], "step": "read", "reason": "", "numbers": {}, "seconds": {}}',
        b'{"id": "a", "source": "a", "verdict": "kept", "step": "read", "reason": "", "numbers": [], "seconds": {}}',
        b'{"id": "a", "source": "a", "verdict": "kept", "step": "read", "reason": "", "numbers": {"n": "x"}}',
    ],
)
def test_a_malformed_line_is_one_error(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"ledger.jsonl, line 1: expected a line of a ledger, got: "):
        read_ledger(tmp_path / "ledger.jsonl")


def test_a_films_name_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"films/\xff\xe9.mp4")
    Ledger(tmp_path / "ledger.jsonl").append(LedgerLine(id="a", source=name, verdict="kept", step="read", reason=name))
    (line,) = read_ledger(tmp_path / "ledger.jsonl")
    assert line.source == line.reason == name


def test_a_record_without_its_line_was_interrupted_and_goes(tmp_path: Path) -> None:
    with FilmFolder(tmp_path) as film:
        film.add(line("a", "kept"), record("a"))
        film._manifest.append(record("b"))  # killed between the record and its line
    with FilmFolder(tmp_path) as film:
        assert "a" in film and "b" not in film
        film.add(line("b", "kept"), record("b"))
        film.finish()
    assert film.is_finished
    assert [r.id for r in film.records()] == [each.id for each in film.lines()] == ["a", "b"]


def _hold(folder: Path, opened: "multiprocessing.synchronize.Event") -> None:
    with FilmFolder(folder) as film:
        opened.set()
        film.add(line("from the other process"))
        multiprocessing.Event().wait(0.3)
        film.add(line("and one more"))


def test_a_film_is_open_to_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    opened = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, opened))
    other.start()
    assert opened.wait(20)
    with FilmFolder(tmp_path) as film:  # waits
        assert len(film.lines()) == 2
    other.join()


def test_films_are_found_with_their_captions_and_distinct_ids(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "b/1.MP4", "b/é ü.mov", ".hidden/2.mp4", "notes.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/1.txt").write_text("a blue\n lagoon \n")
    films = find_films(tmp_path)
    assert [film.path.relative_to(tmp_path).as_posix() for film in films] == ["a/1.mp4", "b/1.MP4", "b/é ü.mov"]
    assert len({film.id for film in films}) == 3
    assert [film.caption for film in films] == ["a blue lagoon", "", ""]
    assert find_films(tmp_path / "a/1.mp4")[0].caption == "a blue lagoon"
    (tmp_path / "a/1.mp4").write_bytes(b"another film")
    assert find_films(tmp_path)[0].id != films[0].id
    tmp_path.rename(tmp_path.with_name("moved"))
    assert [film.id for film in find_films(tmp_path.with_name("moved"))][1:] == [film.id for film in films][1:]
    tmp_path.with_name("moved").rename(tmp_path)
    with pytest.raises(FileNotFoundError, match="videos: expected films"):
        find_films(tmp_path / ".hidden" / "none")
