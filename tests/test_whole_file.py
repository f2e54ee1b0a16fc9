"""A file is written whole or stays as it was."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from model.whole_file import whole_file, write_text

ROOT = Path(__file__).resolve().parents[1]


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
        assert partial.suffix == ".mp4"
        partial.touch()


def in_another_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_what_a_killed_writer_leaves_is_removed_by_the_next_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    killed = """
        import os, pathlib, signal, sys
        from model.whole_file import whole_file, whole_folder
        folder = pathlib.Path(sys.argv[1])
        with whole_folder(folder / "net") as one, whole_file(folder / "a") as other:
            (one / "w").write_text("half")
            other.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert in_another_process(textwrap.dedent(killed), tmp_path).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".partial-*"))) == 2
    next_one = "import sys; from model.whole_file import write_text; write_text(sys.argv[1], 'whole')"
    with whole_file(tmp_path / "b") as mine:
        mine.write_text("mine")
        done = in_another_process(next_one, tmp_path / "a")
        assert done.returncode == 0, done.stderr
        assert mine.read_text() == "mine"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "whole", "b": "mine"}


def test_files_have_the_mode_that_the_user_set_whoever_writes_them(tmp_path: Path) -> None:
    code = """
        import os, sys, torch
        from model.checkpoint import save_training_state, save_component
        os.umask(0o022)
        save_training_state(sys.argv[1] + "/state", {"a": torch.zeros(2)})
        os.umask(0o027)
        save_component(sys.argv[1] + "/net", torch.nn.Linear(2, 2), {})
    """
    done = in_another_process(textwrap.dedent(code), tmp_path)
    assert done.returncode == 0, done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "net").iterdir()}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o644
    assert modes == {"config.yaml": 0o640, "meta.json": 0o640, "weights.safetensors": 0o640}
    assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o750


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/full")
    with pytest.raises(ValueError, match="expected the name of a file to write"):
        write_text(path, "x")
    assert path.exists() and not path.is_file()


def test_a_disk_that_is_full_is_one_error_of_the_system(tmp_path: Path) -> None:
    code = """
        import pathlib, resource, sys, torch
        from model.data.clips import save_array
        from model.tensor_file import save_tensors
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # files cannot grow, as on a full disk
        zeros = torch.zeros(10_000)
        for write in (lambda path: save_tensors(path, {"a": zeros}), lambda path: save_array(path, zeros.numpy())):
            try:
                write(pathlib.Path(sys.argv[1]))
            except OSError as error:
                print(error)
    """
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")
    done = in_another_process(textwrap.dedent(code), path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(f"{path}: cannot be written; is the disk full? (" in line for line in lines)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
