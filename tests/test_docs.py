"""The site of pages and docstrings builds; MkDocs' strict mode refuses links and docstrings that lead nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ".github/docs/mkdocs.yml"


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path):
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # ruff formats signatures
    }
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "-f", CONFIG, "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/reference/cc2env/index.html").is_file()


def test_what_github_reads_is_valid_yaml():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert yaml.safe_load((ROOT / ".github/CITATION.cff").read_text())["cff-version"] == "1.2.0"
