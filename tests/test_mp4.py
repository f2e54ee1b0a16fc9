"""A film that did not fit onto the disk is an error, and no file."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from cc2env.recording import write_film
from model.mp4 import require_frames

ROOT = Path(__file__).resolve().parents[1]


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 48, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_film_is_distinguished_from_a_whole_one(tmp_path: Path, share: float) -> None:
    film = write_film(tmp_path / "film.mp4", noise(), 12)
    require_frames(film, 20)
    content = film.read_bytes()
    film.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match="of 20 frames"):
        require_frames(film, 20)


@pytest.mark.parametrize(
    ("writer", "suffix"),
    [
        ("cc2env.recording.write_film", ".mp4"),
        ("cc2env.recording.write_film", ".gif"),
        ("model.data.video_io.write_video", ".mp4"),
    ],
)
def test_a_film_that_does_not_fit_is_one_error_and_no_file(tmp_path: Path, writer: str, suffix: str) -> None:
    module, name = writer.rsplit(".", 1)
    code = f"""
        import resource, signal, sys, numpy as np
        from {module} import {name}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # files cannot grow, as on a full disk
        try:
            {name}(sys.argv[1], np.random.default_rng(0).integers(0, 255, (20, 48, 80, 3), dtype=np.uint8), 12)
        except OSError as error:
            print("refused:", error)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / f"film{suffix}")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused:") and "cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []
