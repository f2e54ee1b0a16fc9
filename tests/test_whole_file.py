"""A file is written whole or stays as it was."""

from pathlib import Path

import pytest

from model.whole_file import whole_file, write_text


def test_a_block_that_succeeds_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "note.txt"
    write_text(path, "first")
    write_text(path, "señal")
    assert path.read_text(encoding="utf-8") == "señal"
    assert [file.name for file in path.parent.iterdir()] == ["note.txt"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_the_new_file_has_the_same_ending(tmp_path: Path) -> None:
    with whole_file(tmp_path / "clip.mp4") as partial:
        assert partial.suffix == ".mp4" and partial.parent == tmp_path
        partial.touch()
