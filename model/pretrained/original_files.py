"""Files of weights as Wan's authors publish them: safetensors, or PyTorch's own, of which only tensors are read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def stored_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the meta device: shapes and types; no weight is read.

    Raises:
        ValueError: the file is damaged, or holds something else than tensors.
    """
    if path.suffix != ".safetensors":
        return _load(path, "meta")
    with _named_damage(path), safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: _meta(path, entry.get_shape(), entry.get_dtype()) for name, entry in slices.items()}


def num_stored(folder: Path) -> int:
    """Number of weights in a folder's safetensors; none is read. Raises as `stored_tensors`."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(tensor.numel() for file in files for tensor in stored_tensors(file).values())


def iterate_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a file's tensors, one by one, mapped from the file.

    Raises:
        ValueError: the file is damaged, or holds something else than tensors.
    """
    if path.suffix != ".safetensors":
        yield from _load(path, "cpu").items()
        return
    with _named_damage(path), safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            yield name, file.get_tensor(name)


def check_shapes(source: Path, module: nn.Module, found: Mapping[str, tuple[int, ...]], contents: str) -> None:
    """Raises if a file's tensors, by our names, are not those of a module, which may be on the meta device.

    Raises:
        ValueError: The message names the first that differs, and `contents`, which was expected.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if different := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = different[0]
        raise ValueError(
            f"{source}: expected {contents}, got {len(different)} other tensors: {name} should be "
            f"{expected.get(name)}, is {found.get(name)}; download it again"
        )


def read_pickle(path: Path, device: str) -> object:
    """What PyTorch's own file holds: tensors on the device, mapped from the file on the CPU, and plain containers.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    try:
        # weights_only: a pickle can run any program; this reader accepts only tensors and plain containers
        stored: object = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: expected a file of tensors alone, got {reason}; fetch it again") from error
    return stored


def _load(path: Path, device: str) -> dict[str, Tensor]:
    stored = read_pickle(path, device)
    if not isinstance(stored, dict) or not all(isinstance(tensor, Tensor) for tensor in stored.values()):
        raise ValueError(
            f"{path}: expected tensors by name, got {type(stored).__name__} of others; take Wan's own file"
        )
    return stored


def _meta(path: Path, shape: list[int], kind: str) -> Tensor:
    if kind not in _DTYPES:
        raise ValueError(f"{path}: expected numbers of 8 to 64 bits, got {kind}; use the model's own in 16 bits")
    return torch.empty(shape, dtype=_DTYPES[kind], device="meta")


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{path}: expected safetensors, got a damaged file ({error}); fetch it again") from error
