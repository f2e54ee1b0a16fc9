"""Components and training states on disk: safetensors, YAML and JSON only, written whole or not at all.

A component is a folder of weights.safetensors, config.yaml and meta.json; a training state is one safetensors file.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from model.config_file import read_json, read_yaml
from model.tensor_file import load_tensors, save_tensors
from model.whole_file import standing_folder, whole_folder, write_text

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.yaml"
META_FILE = "meta.json"

C = TypeVar("C")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)

# Keys that mark values in the JSON of a training state that JSON cannot express.
_TENSOR, _TUPLE, _ITEMS = "__tensor__", "__tuple__", "__items__"


def save_component(
    folder: str | Path,
    module: nn.Module,
    config: Any,
    meta: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes or replaces a component folder; if the process is killed, the old or the new folder is there, whole.

    Args:
        folder: Where to write; parents are created.
        module: Its state dict is the weights.
        config: The dataclass that the module is built from.
        meta: Anything JSON can hold: steps, data, measured figures.
        dtype: Type of the stored floating-point weights; None keeps their own.
    """
    with whole_folder(folder) as partial:
        write_text(partial / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.structured(config)))
        write_text(partial / META_FILE, json.dumps(meta or {}, indent=2) + "\n")
        weights = module.state_dict()
        if dtype is not None:
            weights = {name: _cast(weight, dtype) for name, weight in weights.items()}
        save_tensors(partial / WEIGHTS_FILE, weights, {"format": "pt"})


def copy_component(source: str | Path, folder: str | Path) -> None:
    """Replaces `folder` by a copy of a component, whole or not at all."""
    with whole_folder(folder) as partial:
        shutil.copytree(standing_folder(source), partial, dirs_exist_ok=True)


def load_config(folder: str | Path, config_class: type[C]) -> C:
    """The component's configuration.

    Raises:
        FileNotFoundError: if there is no such component.
        ValueError: for broken YAML, unknown or missing keys, or values of the wrong type.
    """
    return read_yaml(_file_of(folder, CONFIG_FILE), config_class)


def load_meta(folder: str | Path) -> dict[str, Any]:
    """The component's meta.json. Raises as `load_config`."""
    return read_json(_file_of(folder, META_FILE))


def load_weights(folder: str | Path, module: M) -> M:
    """Fills `module` (which may be on the meta device) with the component's weights, in float32, and returns it.

    Args:
        folder: A folder made by `save_component`.
        module: Built from the component's configuration.

    Raises:
        FileNotFoundError: if there is no such component.
        ValueError: for a corrupt file, missing or unexpected weights, shapes or kinds of numbers that differ, or a
            weight that is not finite.
    """
    path = _file_of(folder, WEIGHTS_FILE)
    fill(module, load_tensors(path)[0].items(), torch.float32, source=path)
    return module


@torch.no_grad()
def fill(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype | None = None,
    *,
    source: Path | str = "weights",
) -> None:
    """Fills a module, which may be on the meta device, one tensor at a time; each may be released after use.

    Args:
        module: Parameters that are not on the meta device stay the same objects, since an optimiser may hold them.
        tensors: Names in the module, and values.
        dtype: Floating-point values are converted to it; None keeps the stored type.
        source: Where they come from, for the errors.

    Raises:
        ValueError: a name is unknown, given twice or missing, a shape differs, or a number is not finite.
    """
    expected, surplus = module.state_dict(keep_vars=True), []
    missing = set(expected)
    for name, tensor in tensors:
        if name not in missing:
            surplus.append(name)
            continue
        own = expected[name]
        if tensor.shape != own.shape:
            raise ValueError(
                f"{source}: {name}: expected shape {list(own.shape)}, got {list(tensor.shape)}; "
                "build the module from the config beside the weights"
            )
        check_numbers(source, name, tensor, own.is_floating_point())
        value = tensor if dtype is None else _cast(tensor, dtype)
        if own.is_meta:
            owner, _, leaf = name.rpartition(".")
            is_parameter = isinstance(own, nn.Parameter)
            setattr(
                module.get_submodule(owner), leaf, nn.Parameter(value, own.requires_grad) if is_parameter else value
            )
        else:
            own.copy_(value)
        missing.remove(name)
    if missing or surplus:
        raise ValueError(
            f"{source}: expected the weights of the module, got {format_names(surplus)} too many and "
            f"{format_names(missing)} missing; build the module from the config beside the weights"
        )


def load_component(folder: str | Path, config_class: type[C], build: Callable[[C], M]) -> M:
    """`build(config)` with the component's weights. Raises as `load_config` and `load_weights`."""
    return read_unmixed(folder, lambda: load_weights(folder, build(load_config(folder, config_class))))


def read_unmixed(folder: str | Path, read: Callable[[], R]) -> R:
    """The result of `read`, which opens several files of a component: all old or all new, if it is replaced meanwhile.

    Raises:
        Exception: whatever `read` raises although the component was not replaced.
    """
    while True:
        before = _identity(folder)
        try:
            found = read()
        except (ValueError, OSError):
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return found


def stored_dtype(folder: str | Path) -> torch.dtype:
    """The type of a component's stored weights: writing them again in another type would round them.

    Raises:
        FileNotFoundError: if there is no such component.
        ValueError: if its weights are damaged.
    """
    path = _file_of(folder, WEIGHTS_FILE)
    found = next((weight.dtype for weight in load_tensors(path)[0].values() if weight.is_floating_point()), None)
    if found is None:
        raise ValueError(f"{path}: expected floating-point weights, got none; save the component again")
    return found


def component_exists(folder: str | Path) -> bool:
    """Whether a whole component is at `folder`, also right after a save that was killed."""
    return (standing_folder(folder) / WEIGHTS_FILE).is_file()


def save_training_state(path: str | Path, state: dict[str, Any]) -> None:
    """Writes a nested state into one safetensors file, in place of the previous one, atomically.

    Args:
        path: The file.
        state: Dicts (any plain keys), lists and tuples of tensors, numbers, strings, booleans and None: state dicts of
            optimisers, generator states and counters as they are. The structure goes into the file's header as JSON.

    Raises:
        ValueError: for a value of any other kind, with its place in the state.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors))
    save_tensors(path, tensors, {"structure": structure})


def load_training_state(path: str | Path) -> dict[str, Any]:
    """The state that `save_training_state` was given: same nesting, same dtypes, bit for bit; tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is corrupt or not a training state.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a training state, got no file; start the training without resuming")
    tensors, metadata = load_tensors(path)
    if "structure" not in metadata:
        raise ValueError(f"{path}: expected a training state, got other safetensors; give the file of a training run")
    try:
        state = _unflatten(json.loads(metadata["structure"]), tensors)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: expected a training state, got a damaged one ({error!r:.200}); remove it") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected a training state, got another object; remove it")
    return state


def _flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors go into `tensors` under their place."""
    match value:
        case Tensor():
            while place in tensors:  # {"a/b": .., "a": {"b": ..}} has two such places.
                place += "'"
            tensors[place] = value
            return {_TENSOR: place}
        case dict() if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: _flatten(item, f"{place}/{key}", tensors) for key, item in value.items()}
        case dict():
            return {_ITEMS: [_flatten(list(i), f"{place}/{n}", tensors) for n, i in enumerate(value.items())]}
        case tuple():
            return {_TUPLE: _flatten(list(value), place, tensors)}
        case list():
            return [_flatten(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]
        case None | bool() | int() | float() | str():
            return value
    raise ValueError(
        f"state{place}: expected tensors, numbers, strings, None, dicts, lists or tuples, got {type(value).__name__}; "
        "convert it first"
    )


def _unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case {"__tensor__": str(place)}:
            return tensors[place]
        case {"__items__": list(items)}:
            return {key: item for key, item in (_unflatten(pair, tensors) for pair in items)}
        case {"__tuple__": list(items)}:
            return tuple(_unflatten(item, tensors) for item in items)
        case dict():
            return {key: _unflatten(item, tensors) for key, item in value.items()}
        case list():
            return [_unflatten(item, tensors) for item in value]
    return value


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def check_numbers(source: Path | str, name: str, weight: Tensor, is_floating_point: bool) -> None:
    """Raises ValueError unless a weight's numbers are of the kind that its module computes with, and finite.

    Integers in a float's place would be silently rounded weights, and one NaN turns every frame black.
    """
    if weight.is_floating_point() != is_floating_point:
        wanted = "floating-point" if is_floating_point else "whole"
        raise ValueError(f"{source}: {name}: expected {wanted} numbers, got {weight.dtype}; fetch the file again")
    comparable = weight.float() if weight.itemsize == 1 else weight  # torch.isfinite does not know 8-bit floats
    if is_floating_point and not bool(torch.isfinite(comparable).all()):
        raise ValueError(f"{source}: {name}: expected finite numbers, got NaN or infinity; fetch the file again")


def format_names(names: Iterable[str], most: int = 5) -> str:
    """Returns a few of the names, sorted, and how many more there are."""
    names = sorted(names)
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"[{shown}]"


def _file_of(folder: str | Path, name: str) -> Path:
    folder = Path(folder)
    path = standing_folder(folder) / name
    if not path.is_file():
        got = "no such file" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"{folder}: expected a component folder with {WEIGHTS_FILE}, {CONFIG_FILE} and {META_FILE}, got {got} "
            f"as {path}; check the path or save the component again"
        )
    return path


def _identity(folder: str | Path) -> tuple[Path, int, int] | None:
    """A value that changes when the component is replaced."""
    standing = standing_folder(folder)
    try:
        found = standing.stat()
    except FileNotFoundError:
        return None
    return standing, found.st_ino, found.st_mtime_ns
