"""Training states: every kind of value comes back as it was, and what is no training state is refused."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from model import checkpoint


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def trained() -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    net = nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    step(net, optimizer)
    return net, optimizer


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss: torch.Tensor = net(torch.randn(8, 3)).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    net, optimizer = trained()
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "step": 1}
    checkpoint.save_training_state(tmp_path / "run" / "state.safetensors", state)
    losses = [step(net, optimizer) for _ in range(3)]

    net, optimizer = trained()
    torch.manual_seed(99)
    state = checkpoint.load_training_state(tmp_path / "run" / "state.safetensors")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    assert state["step"] == 1
    assert [step(net, optimizer) for _ in range(3)] == losses


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {
        "plain": [None, True, 3, 0.1, 1e-300, float("inf"), "text", 2**100],
        "tuple": (0.9, (0.95, [1])),
        "empty": {"dict": {}, "list": [], "tuple": ()},
        "int keys": {0: {"step": 1}, 7: (2,)},
        "marker": {"__tensor__": "no tensor", "__tuple__": 1},
        "random": random.Random(0).getstate(),
    }
    tensors: dict[str, Any] = {
        "a": shared, "same": shared, "view": shared[2:4], "strided": shared.view(2, 3).T, "scalar": torch.tensor(2),
        "none": torch.zeros(0, 3), "bool": torch.tensor([True]), "byte": torch.tensor([255], dtype=torch.uint8),
        "bfloat16": torch.tensor([1.5], dtype=torch.bfloat16), "float64": torch.tensor([0.1], dtype=torch.float64),
        "x/y": torch.tensor([1]), "x": {"y": torch.tensor([2])},
    }  # fmt: skip
    checkpoint.save_training_state(tmp_path / "s", {**state, "tensors": tensors})
    loaded = checkpoint.load_training_state(tmp_path / "s")
    restored = loaded.pop("tensors")
    assert loaded == state
    assert restored.keys() == tensors.keys()
    assert torch.equal(restored.pop("x")["y"], tensors.pop("x")["y"])
    for name, tensor in tensors.items():
        assert restored[name].dtype == tensor.dtype and torch.equal(restored[name], tensor), name


def test_a_value_that_cannot_be_kept_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"state/optimizer/0/hook: expected tensors, .* got function"):
        checkpoint.save_training_state(tmp_path / "s", {"optimizer": [{"hook": trained}]})
    assert names(tmp_path) == []


def test_bad_training_states_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a training state, got no file"):
        checkpoint.load_training_state(tmp_path / "absent")
    checkpoint.save_training_state(tmp_path / "s", {"x": torch.ones(100)})
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="expected safetensors"):
        checkpoint.load_training_state(tmp_path / "s")
    safetensors.torch.save_file({"weight": torch.ones(3)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="expected a training state, got other safetensors"):
        checkpoint.load_training_state(tmp_path / "weights")


def test_the_structure_is_readable_json_in_the_header(tmp_path: Path) -> None:
    checkpoint.save_training_state(tmp_path / "s", {"step": 5, "x": [torch.ones(1)]})
    content = (tmp_path / "s").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["structure"]) == {"step": 5, "x": [{"__tensor__": "/x/0"}]}


@pytest.mark.parametrize("structure", ['{"a": {"__tensor__": "/b"}}', "[" * 100_000, "[]", "{", '{"__items__": [1]}'])
def test_a_training_state_of_a_broken_structure_is_refused(tmp_path: Path, structure: str) -> None:
    safetensors.torch.save_file({"/a": torch.zeros(1)}, tmp_path / "state", metadata={"structure": structure})
    with pytest.raises(ValueError, match="state: expected a training state, got "):
        checkpoint.load_training_state(tmp_path / "state")
