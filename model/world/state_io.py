"""World states on disk: one safetensors file, no pickle, written atomically, with a checksum of every byte."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from tensordict import TensorDict
from torch import Tensor

from model.fingerprint import fingerprint
from model.geometry import se3
from model.whole_file import whole_file
from model.world.protocol import WorldState

_FORMAT = "cameractrlworld.world_state.2"
_NO_CHECKSUM = "0" * 64
_FIELDS = {  # shape of a row, type
    "c2w": ((4, 4), torch.float32),
    "intrinsics": ((4,), torch.float32),
    "seed": ((), torch.int64),
    "step": ((), torch.int64),
}


def save_state(path: str | Path, state: WorldState) -> None:
    """Write `state` to the file `path`; a crash leaves the old file or the new one, never a partial one."""
    tensors = {name: getattr(state, name) for name in _FIELDS}
    for key, value in state.memory.items(include_nested=True, leaves_only=True):
        tensors[json.dumps(["memory", *((key,) if isinstance(key, str) else key)])] = value
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    _write(path, tensors, {"format": _FORMAT, "batch_size": json.dumps(list(state.batch_size))})


def load_state(path: str | Path, device: str | torch.device = "cpu") -> WorldState:
    """The state that `save_state` wrote to `path`, bit for bit.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or is no saved world state.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a saved world state, found no file {path}")
    try:
        tensors, metadata = _read(Path(path))
        return _assemble({name: tensor.to(device) for name, tensor in tensors.items()}, metadata)
    except (ValueError, KeyError, RecursionError, SafetensorError) as error:  # KeyError: a type that torch lacks
        raise ValueError(f"path: expected a saved world state, {path} is damaged ({error}); save it again") from error


def check_state(state: WorldState) -> None:
    """Checks what the states of all worlds have in common; of the memory it checks only that no value is NaN.

    Raises:
        ValueError: A field has another shape or type, or a value that no episode has.
    """
    for name, (shape, dtype) in _FIELDS.items():
        check_entry(name, getattr(state, name), (*state.batch_size, *shape), dtype)
    se3.check_poses("c2w", state.c2w)
    if not bool(torch.isfinite(state.intrinsics).all()) or bool((state.intrinsics[..., :2] <= 0).any()):
        raise ValueError(f"intrinsics: expected finite ones, fx and fy positive, got {state.intrinsics.tolist()}")
    for name in ("seed", "step"):
        if bool((getattr(state, name) < 0).any()):
            raise ValueError(f"{name}: expected integers of at least 0, got {getattr(state, name).tolist()}")
    for key, value in state.memory.items(include_nested=True, leaves_only=True):
        if value.is_floating_point() and bool(torch.isnan(value).any()):
            raise ValueError(f"memory: expected numbers, got NaN in {key}")


def check_entry(name: str, value: object, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Checks the shape, in which -1 is any length, and the type of a tensor.

    Raises:
        ValueError: The value has another shape or type, or is no tensor.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected {dtype} of shape {list(shape)}, got {type(value).__name__}")
    fits = value.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, value.shape, strict=True))
    if not fits or value.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} of shape {list(shape)}, got {value.dtype} {list(value.shape)}")


def _write(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    content = save(tensors, metadata | {"checksum": _NO_CHECKSUM})
    checksum = fingerprint(content)
    with whole_file(path) as partial:
        partial.write_bytes(content.replace(_NO_CHECKSUM.encode(), checksum.encode(), 1))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a file whose checksum is right: it covers all bytes, with zeros in place of the checksum.

    Files of a version that wrote no checksum are refused, because damage in them could not be detected.
    """
    content = path.read_bytes()
    tensors = load(content)  # also checks the header
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"format: expected {_FORMAT}, got {metadata.get('format')}")
    checksum = metadata.get("checksum", "")
    blank = content.replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)
    if len(checksum) != len(_NO_CHECKSUM) or fingerprint(blank) != checksum:
        raise ValueError("checksum: expected that of the file's bytes, got another")
    return tensors, metadata


def _assemble(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> WorldState:
    if missing := sorted(_FIELDS.keys() - tensors.keys()):
        raise ValueError(f"expected all fields, got none for {missing}")
    batch_size = json.loads(metadata.get("batch_size", "null"))
    if not isinstance(batch_size, list):
        raise ValueError(f"batch_size: expected a list, got {batch_size}")
    memory: dict[str, Any] = {}
    for name, value in tensors.items():
        if list(value.shape[: len(batch_size)]) != batch_size:
            raise ValueError(f"{name}: expected batch size {batch_size}, got shape {list(value.shape)}")
        if name not in _FIELDS:
            _put(memory, name, value)
    state = WorldState(
        **{name: tensors[name] for name in _FIELDS},
        memory=TensorDict(memory, batch_size=batch_size),
        batch_size=batch_size,
    )
    check_state(state)
    return state


def _put(memory: dict[str, Any], name: str, value: Tensor) -> None:
    """Puts an entry of the memory where its name, a path in JSON, says."""
    path = json.loads(name)
    is_path = isinstance(path, list) and len(path) > 1 and all(isinstance(part, str) for part in path)
    if not is_path or path[0] != "memory":
        raise ValueError(f'{name}: expected a path ["memory", ...]')
    place = memory
    for folder in path[1:-1]:
        place = place.setdefault(folder, {})
        if not isinstance(place, dict):
            raise ValueError(f"{name}: expected a range of bytes of its own, got that of another entry")
    if path[-1] in place:
        raise ValueError(f"{name}: expected a range of bytes of its own, got that of another entry")
    place[path[-1]] = value
