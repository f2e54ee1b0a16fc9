"""`world.yaml` from anywhere: it is read as it was written, or refused by one ValueError."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.world.config import TextEncoderConfig, WorldConfig, read_world_config, write_world_config


def read(folder: Path, text: str) -> WorldConfig:
    (folder / "world.yaml").write_text(text, encoding="utf-8")
    return read_world_config(folder)


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(alphabet="\\${}:,.[]'\"# \naé映oc", max_size=24))
def test_every_text_comes_back_as_it_was(prompt: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("world")
    config = WorldConfig(default_prompts=[prompt], text_encoder=TextEncoderConfig(vocabulary=[prompt]))
    write_world_config(folder, config)
    assert read_world_config(folder) == config


def test_nothing_of_this_machine_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "leaked")
    prompt = "${oc.env:SECRET}"
    assert read(tmp_path, f'default_prompts: ["{prompt}"]').default_prompts == [prompt]
    assert read(tmp_path, "default_prompts: ['a ${width} b']").default_prompts == ["a ${width} b"]
    with pytest.raises(ValueError, match=r"world\.yaml"):
        read(tmp_path, "fps: ${oc.env:SECRET}")


@pytest.mark.parametrize(
    "line",
    [
        *(f"fps: {fps}" for fps in ("0", "-1", ".nan", ".inf", "1e9", "[12]", "fast")),
        *(f"{side}: {size}" for side in ("height", "width") for size in ("0", "-48", "16385", "1e300", "4.5")),
        *(f"horizontal_fov_deg: {angle}" for angle in ("0", "180", "-75", ".nan")),
        *(f"{name}: 1000000" for name in ("context_latents", "poses_per_clip", "frames_per_latent", "memory_capacity")),
        "memory_latents: -1",
        "text_encoder: {dim: 0}",
        "text_encoder: {num_tokens: 1000000000}",
        "unknown: 1",
        "- 1",
        "just text",
        "",
        "a: &a [x]\ndefault_prompts: *a",
        "default_prompts: " + "[" * 3000 + "]" * 3000,
        "!!python/object/apply:os.system ['true']",
    ],
)
def test_what_is_no_world_is_one_value_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"world\.yaml"):
        read(tmp_path, line)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "world.yaml", "wb") as file:
        file.truncate(2**34)  # sparse: 16 GiB that take no disk
    with pytest.raises(ValueError, match="at most"):
        read_world_config(tmp_path)
