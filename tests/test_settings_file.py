"""A run resumed with other settings is refused, and the error names them; some settings may change."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.build import TrainConfig
from model.settings_file import SETTINGS_FILE, check_settings, keep_settings
from model.training import run_folder

BEGUN: dict[str, Any] = {"seed": 1, "out": "a", "data": {"fps": 12.0, "folder": None}, "shares": {0: 0.5, 4: 0.5}}


def test_every_setting_that_differs_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    keep_settings(tmp_path, BEGUN)
    before = (tmp_path / SETTINGS_FILE).read_bytes()
    changed = {**BEGUN, "data": {"fps": 24.0, "folder": None}, "shares": {0: 0.5, 4: 0.5, 6: 0.1}, "out": "b"}
    with pytest.raises(ValueError) as refusal:
        keep_settings(tmp_path, changed, free=["out"])
    said = str(refusal.value)
    assert "data.fps was 12.0, is 24.0; shares was {'0': 0.5, '4': 0.5}, is {'0': 0.5, '4': 0.5, '6': 0.1}" in said
    assert "seed" not in said and "out was" not in said
    assert (tmp_path / SETTINGS_FILE).read_bytes() == before
    check_settings(tmp_path, changed, free=["out", "data", "shares"])
    keep_settings(tmp_path, changed, is_begun=False)  # nothing is there yet that the mistake could spoil
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["data.fps"] == 24.0


def test_settings_that_one_side_does_not_know_are_no_difference(tmp_path: Path) -> None:
    keep_settings(tmp_path, {"old": 1, "kept": 2})
    keep_settings(tmp_path, {"new": 3, "kept": 2})
    assert json.loads((tmp_path / SETTINGS_FILE).read_text()) == {"old": 1, "kept": 2, "new": 3}


def test_a_longer_training_on_another_device_goes_on_and_another_batch_size_is_named(tmp_path: Path) -> None:
    config = TrainConfig(out=str(tmp_path), vae="vae")
    run_folder.keep_settings(tmp_path, config)
    (tmp_path / run_folder.STATE_FILE).touch()
    config.training.num_steps, config.device, config.vae = 5000, "cuda", "elsewhere/vae"
    run_folder.keep_settings(tmp_path, config)
    config.training.batch_size += 1
    with pytest.raises(ValueError, match=r"got training\.batch_size was 32, is 33; name another$"):
        run_folder.check_settings(tmp_path, config)
    (tmp_path / run_folder.STATE_FILE).unlink()
    run_folder.keep_settings(tmp_path, config)
