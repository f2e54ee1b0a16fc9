"""Every command has a console script and a help that names its options."""

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

import cc2env  # noqa: F401

ROOT = Path(__file__).parents[2]


def test_every_command_of_the_model_has_a_console_script() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    commands = {path.stem for path in (ROOT / "model/cli").glob("*.py") if "hydra_command(" in path.read_text()}
    commands |= {path.stem for path in (ROOT / "model/cli").glob("*.py") if "def main(" in path.read_text()}
    assert commands >= {"train", "adversarial", "evaluate", "curate"}
    assert {f"model.cli.{command}:main" for command in commands} <= set(scripts.values())
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("module", "words", "options"),
    [
        ("train", [], ["experiment", "out", "vae", "initial_dit", "diffusion.context_shares", "training.num_steps"]),
        ("train_vae", [], ["experiment", "out", "window_latents", "freeze_encoder", "training.num_steps"]),
        ("tables", [], ["table", "budget", "out", "only", "num_seeds", "num_scenes", "train.training.num_steps"]),
        ("evaluate", ["oracle"], ["world", "num_scenes", "num_clips", "out", "batch_size"]),
        (
            "curate",
            [],
            ["videos", "out", "backend", "shots.fps", "steps.motion.min_speed", "tools.depth"],
        ),
        ("curate", ["import"], ["kind", "path", "out", "media", "scale", "fps", "ignore_distortion"]),
        ("curate", ["export"], ["data", "kind", "out", "height", "width"]),
        ("curate", ["proof"], ["out", "films.num_films", "depth_noise", "num_paths", "pictures"]),
        ("curate", ["pictures"], ["film", "clip", "out"]),
    ],
)
def test_help_names_the_options(
    module: str,
    words: list[str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *words, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        importlib.import_module(f"model.cli.{module}").main()
    said = capsys.readouterr().out
    assert all(f"{option}=" in said for option in options)
    assert not list(tmp_path.iterdir())
