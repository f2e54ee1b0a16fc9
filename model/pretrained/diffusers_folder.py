"""A diffusers-format folder: config.json beside diffusion_pytorch_model.safetensors, whole or sharded.

Tensors are read one by one, memory-mapped, into a module built on the meta device: never twice in memory.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.checkpoint import format_names
from model.config_file import read_json
from model.tensor_file import save_tensors
from model.whole_file import whole_folder, write_text

CONFIG_NAME = "config.json"
WEIGHTS_STEM = "diffusion_pytorch_model"
WEIGHTS_NAME = f"{WEIGHTS_STEM}.safetensors"
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"


def read_config(folder: str | Path) -> dict[str, Any]:
    """The folder's config.json as a dictionary.

    Raises:
        FileNotFoundError: the folder has no config.json.
        ValueError: config.json is not a JSON object.
    """
    return read_json(_require(Path(folder) / CONFIG_NAME))


def iterate_tensors(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, tensor) of every stored tensor, one at a time, on the CPU in the stored dtype.

    Raises:
        FileNotFoundError: there are no safetensors weights, or a shard of the index is missing.
        ValueError: a weight file is corrupt, or disagrees with the index.
    """
    folder = Path(folder)
    if (folder / INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file():
        for shard, names in _read_index(folder).items():
            yield from _iterate_file(_require(folder / shard), expected=names)
    else:
        yield from _iterate_file(_require(folder / WEIGHTS_NAME), expected=None)


def check_shards(folder: str | Path) -> None:
    """Raises as `iterate_tensors` if a file of weights is missing, without opening one."""
    folder = Path(folder)
    if (folder / INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file():
        for shard in _read_index(folder):
            _require(folder / shard)
    else:
        _require(folder / WEIGHTS_NAME)


def write_folder(
    folder: str | Path,
    config: dict[str, Any],
    tensors: Iterable[tuple[str, Tensor]],
    max_shard_bytes: int | float = 5e9,
) -> None:
    """Writes config.json and the weights, in shards with an index if they exceed `max_shard_bytes`.

    The folder is replaced as a whole, so that a reader sees the old one or the new one.

    Raises:
        ValueError: the folder holds something else, which would be lost.
    """
    others = sorted(path.name for path in Path(folder).glob("*") if not _is_ours(path.name))
    if others:
        raise ValueError(f"{folder}: expected a new folder, or weights to replace, got {others[:3]}; name another")
    with whole_folder(folder) as partial:
        shards = _write_shards(partial, tensors, max_shard_bytes)
        if len(shards) == 1:
            os.rename(shards[0][0], partial / WEIGHTS_NAME)
        else:
            weight_map: dict[str, str] = {}
            for i, (shard, sizes) in enumerate(shards):
                name = f"{WEIGHTS_STEM}-{i + 1:05d}-of-{len(shards):05d}.safetensors"
                os.rename(shard, partial / name)
                weight_map.update(dict.fromkeys(sizes, name))
            total = sum(size for _, sizes in shards for size in sizes.values())
            _write_json(partial / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
        _write_json(partial / CONFIG_NAME, config)


def _is_ours(name: str) -> bool:
    return name == CONFIG_NAME or name.startswith((f"{WEIGHTS_STEM}.", f"{WEIGHTS_STEM}-"))


def _write_shards(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], max_shard_bytes: int | float
) -> list[tuple[Path, dict[str, int]]]:
    """Writes the shards under temporary names; returns each file with the bytes of its tensors by name."""
    shards: list[tuple[Path, dict[str, int]]] = []
    shard: dict[str, Tensor] = {}

    def finish() -> None:
        path = folder / f"{len(shards)}.safetensors"
        save_tensors(path, shard, {"format": "pt"})
        shards.append((path, {name: tensor.nbytes for name, tensor in shard.items()}))
        shard.clear()

    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > max_shard_bytes:
            finish()
            size = 0
        shard[name] = tensor
        size += tensor.nbytes
    finish()
    return shards


def _iterate_file(path: Path, expected: set[str] | None) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if expected is not None and not expected <= names:
                raise ValueError(
                    f"{path}: expected the tensors that the index names, got none for "
                    f"{format_names(expected - names)}; download the folder again"
                )
            for name in sorted(names if expected is None else expected):
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got a damaged one ({error}); fetch it again") from error


def _read_index(folder: Path) -> dict[str, set[str]]:
    """Tensor names by shard file."""
    path = folder / INDEX_NAME
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(f"{path}: expected an object 'weight_map', got {type(weight_map).__name__}")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ValueError(f"{path}: expected plain file names in 'weight_map', got {shard!r}")
        shards.setdefault(shard, set()).add(name)
    return shards


def _require(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"folder: expected a file {path.name} in {path.parent}, got none; "
            "give a folder in diffusers' format with safetensors weights"
        )
    return path


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
