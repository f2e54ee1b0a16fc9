"""A pipeline of two transformers is refused before a weight is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.pretrained.wan import check_pipeline
from model.world.load import load_world
from model.world.networks import read_world

_PART = ["diffusers", "WanTransformer3DModel"]


@pytest.mark.parametrize("index", [{"transformer_2": _PART}, {"boundary_ratio": 0.875}, None])
def test_two_experts_are_refused(tmp_path: Path, index: dict[str, Any] | None) -> None:
    (tmp_path / "transformer").mkdir()
    if index is None:
        (tmp_path / "transformer_2").mkdir()
    else:
        (tmp_path / "model_index.json").write_text(json.dumps({"transformer": _PART} | index))
    with pytest.raises(ValueError, match=r"^world: .* transformer_2: expected a pipeline of one transformer"):
        load_world(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, "7"])
def test_a_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model_index.json: expected"):
        check_pipeline(tmp_path)


def test_each_wan_has_its_own_defaults(wan_base: Path, wan22_base: Path) -> None:
    for folder, size, shift in ((wan_base, (480, 832, 16.0), 3.0), (wan22_base, (704, 1280, 24.0), 5.0)):
        (folder / "world.yaml").unlink()
        config = read_world(folder)
        assert (config.height, config.width, config.fps) == size and config.sampler.shift == shift


def test_one_transformer_passes(tmp_path: Path) -> None:
    check_pipeline(tmp_path)
    index = {"transformer": _PART, "transformer_2": [None, None], "boundary_ratio": None}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    check_pipeline(tmp_path)
