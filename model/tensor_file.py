"""Tensors on disk: safetensors, written whole or not at all, and one kind of error for every fault."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.whole_file import whole_file


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors and texts to a file, and replaces it if it exists.

    Raises:
        OSError: the disk is full, or the place cannot be written to.
    """
    with whole_file(path) as partial:
        try:
            save_file(_storable(tensors), partial, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: str | Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the texts of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, not safetensors, or damaged.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a safetensors file, got a folder or a device; name the file")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            # copies: safe_open may return memory mapped from the file, which may be replaced or truncated
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: expected safetensors, got {error}; the file is corrupt, fetch it again") from error


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    seen: set[int] = set()
    storable = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        storable[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return storable
