"""Components and training states: round trips, clear errors, and whole files whenever a save is killed."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from model import checkpoint, whole_file


@dataclass(kw_only=True)
class Config:
    """A component's settings of every kind in use."""

    width: int = 4
    depths: list[int] = field(default_factory=lambda: [1, 2])
    means: list[float] | None = None
    name: str = "net"


class Net(nn.Module):
    """Parameters, a buffer, an integer buffer and tied weights."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(3, width, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(7))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


class Killed(BaseException):
    """kill -9 at this very call: nothing after it runs."""


def test_a_component_comes_back(tmp_path: Path) -> None:
    net, config = Net(), Config(means=[0.1, 1e-7])
    checkpoint.save_component(tmp_path / "world" / "dit", net, config, {"steps": 10, "scores": [0.5]})
    folder = tmp_path / "world" / "dit"
    assert names(folder) == ["config.yaml", "meta.json", "weights.safetensors"]
    assert names(folder.parent) == ["dit"]
    assert checkpoint.load_config(folder, Config) == config
    assert checkpoint.load_meta(folder) == {"steps": 10, "scores": [0.5]}
    assert same(checkpoint.load_weights(folder, Net()), net)
    assert same(checkpoint.load_component(folder, Config, lambda config: Net(config.width)), net)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_weights_are_half_the_size_and_load_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    net = nn.Linear(64, 64)
    checkpoint.save_component(tmp_path / "a", net, Config())
    checkpoint.save_component(tmp_path / "b", net, Config(), dtype=dtype)
    size_a, size_b = ((tmp_path / x / checkpoint.WEIGHTS_FILE).stat().st_size for x in "ab")
    assert size_b < 0.55 * size_a
    loaded = checkpoint.load_weights(tmp_path / "b", nn.Linear(64, 64))
    assert loaded.weight.dtype == torch.float32
    assert torch.equal(loaded.weight, net.weight.to(dtype).float())


def test_loading_keeps_parameters_in_place_and_fills_meta_modules(tmp_path: Path) -> None:
    net = Net()
    checkpoint.save_component(tmp_path / "net", net, Config())
    target = Net()
    before = target.first.weight
    checkpoint.load_weights(tmp_path / "net", target)
    assert target.first.weight is before and target.second.weight is before
    with torch.device("meta"):
        empty = Net()
    loaded = checkpoint.load_weights(tmp_path / "net", empty)
    assert same(loaded, net) and loaded.first.weight.requires_grad


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config(), {"steps": 1})
    (tmp_path / "net" / "stray.txt").write_text("old")
    new = Net()
    checkpoint.save_component(tmp_path / "net", new, Config(name="new"), {"steps": 2})
    assert names(tmp_path) == ["net"] and "stray.txt" not in names(tmp_path / "net")
    assert checkpoint.load_meta(tmp_path / "net") == {"steps": 2}
    assert same(checkpoint.load_weights(tmp_path / "net", Net()), new)


@pytest.mark.parametrize("kill_at", range(18))
@pytest.mark.parametrize("previous", [False, True])
def test_a_save_killed_anywhere_leaves_the_old_or_the_new_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, previous: bool
) -> None:
    folder = tmp_path / "net"
    old, new = Net(), Net()
    if previous:
        checkpoint.save_component(folder, old, Config(name="old"), {"steps": 1})
    with monkeypatch.context() as patch:
        kill_after(patch, kill_at)
        finished = True
        try:
            checkpoint.save_component(folder, new, Config(name="new"), {"steps": 2})
        except Killed:
            finished = False
    if checkpoint.component_exists(folder):
        steps = checkpoint.load_meta(folder)["steps"]
        assert steps == 2 or (steps == 1 and previous and not finished)
        assert checkpoint.load_config(folder, Config).name == {1: "old", 2: "new"}[steps]
        assert same(checkpoint.load_weights(folder, Net()), {1: old, 2: new}[steps])
    else:
        assert not previous and not finished
    whole_file._remove_leftovers.cache_clear()  # The next process's save cleans up whatever was left.
    checkpoint.save_component(folder, old, Config(), {"steps": 3})
    assert names(tmp_path) == ["net"]
    assert checkpoint.load_meta(folder) == {"steps": 3}


def test_a_component_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    folder, old, new = tmp_path / "net", Net(), Net()
    checkpoint.save_component(folder, old, Config(name="old"))
    seen = []

    def build(config: Config) -> Net:
        seen.append(config.name)
        if len(seen) == 1:  # the configuration is read, the weights are not
            checkpoint.save_component(folder, new, Config(name="new"))
        return Net()

    loaded = checkpoint.load_component(folder, Config, build)
    assert seen == ["old", "new"] and same(loaded, new)


def kill_after(patch: pytest.MonkeyPatch, num_calls: int) -> None:
    """Raises Killed at call number `num_calls` of those that order a save, and lets no clean-up run after it."""
    left = num_calls

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
                patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
                raise Killed
            return call(*args)

        return wrapper

    for name in ("rename", "replace", "fsync"):
        patch.setattr(os, name, counted(getattr(os, name)))


def test_a_missing_component_is_named_with_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent: expected a component folder .* got no such folder"):
        checkpoint.load_config(tmp_path / "absent", Config)
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    (tmp_path / "net" / checkpoint.WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"got no such file as .*weights\.safetensors"):
        checkpoint.load_weights(tmp_path / "net", Net())


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_weight_file_is_called_corrupt(tmp_path: Path, keep: int) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    path = tmp_path / "net" / checkpoint.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"weights\.safetensors: expected safetensors, .* corrupt"):
        checkpoint.load_weights(tmp_path / "net", Net())


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    checkpoint.save_component(tmp_path / "net", nn.Linear(3, 4), Config())
    with pytest.raises(ValueError, match=r"\[bias, weight\] too many and \[0\.bias, 0\.weight\] missing"):
        checkpoint.load_weights(tmp_path / "net", nn.Sequential(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match=r"expected shape \[5(, 3)?\], got \[4(, 3)?\]"):
        checkpoint.load_weights(tmp_path / "net", nn.Linear(3, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width: 4\nlenght: 3\n", r"unknown \['lenght'\]"),
        ("width: wide\n", "expected settings of Config"),
        ("width: [\n", "expected YAML"),
        ("- 1\n", "expected a mapping"),
        ("", "expected a mapping"),
    ],
)
def test_a_bad_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    (tmp_path / "net" / checkpoint.CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=rf"config\.yaml: .*{message}"):
        checkpoint.load_config(tmp_path / "net", Config)


def test_settings_absent_from_an_older_config_take_their_defaults(tmp_path: Path) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    (tmp_path / "net" / checkpoint.CONFIG_FILE).write_text("width: 8\n")
    assert checkpoint.load_config(tmp_path / "net", Config) == Config(width=8)


def test_a_bad_meta_is_named(tmp_path: Path) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    (tmp_path / "net" / checkpoint.META_FILE).write_text('{"steps": ')
    with pytest.raises(ValueError, match=r"meta\.json: expected JSON"):
        checkpoint.load_meta(tmp_path / "net")


@pytest.mark.parametrize("kill_at", range(3))
def test_a_killed_save_leaves_the_previous_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save_training_state(path, {"step": 1, "x": torch.ones(3)})
    with monkeypatch.context() as patch:
        kill_after(patch, kill_at)
        with pytest.raises(Killed):
            checkpoint.save_training_state(path, {"step": 2, "x": torch.full((3,), 2.0)})
    state = checkpoint.load_training_state(path)
    assert state["step"] == (2 if kill_at == 2 else 1)
    assert (state["x"] == state["step"]).all()
    whole_file._remove_leftovers.cache_clear()
    checkpoint.save_training_state(path, {"step": 3})
    assert names(tmp_path) == ["state.safetensors"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    net = Net()
    with torch.no_grad():
        net.first.weight[1, 2] = bad
    checkpoint.save_component(tmp_path / "net", net, Config())
    with pytest.raises(ValueError, match=r"weight: expected finite numbers"):
        checkpoint.load_weights(tmp_path / "net", Net())


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    net = Net()
    checkpoint.save_component(tmp_path / "net", net, Config())
    weights = safetensors.torch.load_file(tmp_path / "net" / "weights.safetensors")
    weights["first.bias"] = weights["first.bias"].to(torch.int32)
    safetensors.torch.save_file(weights, tmp_path / "net" / "weights.safetensors")
    with pytest.raises(ValueError, match=r"first\.bias: expected floating-point numbers, got torch\.int32"):
        checkpoint.load_weights(tmp_path / "net", Net())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_short_floats_are_checked_like_long_ones(dtype: torch.dtype) -> None:
    checkpoint.check_numbers("file", "weight", torch.ones(3).to(dtype), True)
    with pytest.raises(ValueError, match=r"^file: weight: expected finite numbers"):
        checkpoint.check_numbers("file", "weight", torch.tensor([1.0, torch.nan]).to(dtype), True)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04N.", (2**62).to_bytes(8, "little") + b"{}", b"\2" + bytes(7) + b"{}"]
)
def test_files_that_are_empty_or_claim_a_huge_header_are_refused_by_every_reader(
    tmp_path: Path, content: bytes
) -> None:
    checkpoint.save_component(tmp_path / "net", Net(), Config())
    for path in (tmp_path / "net" / checkpoint.WEIGHTS_FILE, tmp_path / "state"):
        path.write_bytes(content)
    for read in (
        lambda: checkpoint.load_weights(tmp_path / "net", Net()),
        lambda: checkpoint.load_component(tmp_path / "net", Config, lambda config: Net()),
        lambda: checkpoint.stored_dtype(tmp_path / "net"),
        lambda: checkpoint.load_training_state(tmp_path / "state"),
    ):
        with pytest.raises(ValueError, match=r": expected (safetensors|a training state|floating-point|the weights)"):
            read()
