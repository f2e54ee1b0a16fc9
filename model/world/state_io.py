"""World states on disk: one safetensors file, no pickle, written atomically."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tensordict import TensorDict
from torch import Tensor

from model.whole_file import whole_file
from model.world.protocol import WorldState

_FORMAT = "cameractrlworld.world_state.1"
_FIELDS = ("c2w", "intrinsics", "seed", "step")


def save_state(path: str | Path, state: WorldState) -> None:
    """Write `state` to the file `path`; a crash leaves the old file or the new one, never half of one."""
    tensors = {name: getattr(state, name) for name in _FIELDS}
    for key, value in state.memory.items(include_nested=True, leaves_only=True):
        tensors[json.dumps(["memory", *((key,) if isinstance(key, str) else key)])] = value
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    metadata = {"format": _FORMAT, "batch_size": json.dumps(list(state.batch_size))}
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def load_state(path: str | Path, device: str | torch.device = "cpu") -> WorldState:
    """The state that `save_state` wrote to `path`, bit for bit.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or is no saved world state.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a saved world state, found no file {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            # a copy: what safe_open returns may be mapped from the file, which the next save replaces
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"path: expected a saved world state, {path} is damaged ({error}); save it again") from error
    if metadata.get("format") != _FORMAT or not all(name in tensors for name in _FIELDS):
        raise ValueError(f"path: expected a saved world state ({_FORMAT}), got {path} ({metadata.get('format')})")
    return _assemble(tensors, json.loads(metadata["batch_size"]))


def _assemble(tensors: dict[str, Tensor], batch_size: list[int]) -> WorldState:
    memory: dict[str, object] = {}
    for name, value in tensors.items():
        if name in _FIELDS:
            continue
        _, *folders, leaf = json.loads(name)
        place = memory
        for folder in folders:
            place = place.setdefault(folder, {})  # type: ignore[assignment]
        place[leaf] = value
    return WorldState(
        **{name: tensors[name] for name in _FIELDS},
        memory=TensorDict(memory, batch_size=batch_size),
        batch_size=batch_size,
    )
