"""A run on disk: `training_state.safetensors`, replaced atomically, so that a kill leaves the last one whole."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model import settings_file
from model.checkpoint import load_training_state, save_training_state
from model.file_lock import lock_folder
from model.training import distributed
from model.training.state import TrainState

STATE_FILE = "training_state.safetensors"


@contextmanager
def kept(folder: str | Path) -> Iterator[None]:
    """Keeps the folder to this run, however many processes it has: the first one holds it.

    Raises:
        ValueError: another run holds it.
    """
    is_first = os.environ.get("RANK", "0") == "0"  # of torchrun, whose processes have not met yet
    with lock_folder(folder) if is_first else nullcontext():
        yield


# what may change when a run goes on: its length, what it says and where it runs, and networks, known by `inputs`
_FREE = (
    *("out", "device", "num_threads", "install", "num_preview_scenes", "num_held_out", "data.num_workers", "phases"),
    *("vae", "world", "teacher", "generator", "samplers", "training.num_steps", "discriminator.num_steps"),
    *(
        f"{stage}.fit.{name}"
        for stage in ("training", "discriminator")
        for name in (
            *("sample_every", "checkpoint_steps", "checkpoint_minutes"),
            *("max_skipped_steps", "tensorboard", "progress"),
        )
    ),
)


def check_settings(folder: str | Path, config: Any) -> None:
    """Raises ValueError if the folder holds a run that was begun with other settings; the message names them."""
    settings_file.check_settings(folder, asdict(config), free=_FREE, is_begun=_is_begun(Path(folder)))


def keep_settings(folder: str | Path, config: Any) -> None:
    """Writes the settings of a run beside it. Raises as `check_settings`."""
    if distributed.is_main():
        settings_file.keep_settings(folder, asdict(config), free=_FREE, is_begun=_is_begun(Path(folder)))


def _is_begun(folder: Path) -> bool:
    parts = (*folder.glob("phase_*"), folder / "discriminator", folder / "generator")  # of a distillation
    return any((part / STATE_FILE).exists() for part in (folder, *parts))


def save(folder: Path, state: TrainState) -> None:
    """Writes the state, by process 0; the others wait."""
    if distributed.is_main():
        save_training_state(folder / STATE_FILE, {"tensors": state.tensors(), "numbers": state.numbers()})
    distributed.barrier()


def restore(folder: Path, state: TrainState) -> bool:
    """Continues from the folder's state, if it has one; returns whether it had.

    Raises:
        ValueError: The file is corrupt, or another model's, another seed's or for other `inputs`.
    """
    if not (folder / STATE_FILE).exists():
        return False
    saved: dict[str, Any] = load_training_state(folder / STATE_FILE)
    _compare(folder / STATE_FILE, saved["numbers"], state.inputs)
    state.load(saved["tensors"], saved["numbers"])
    return True


def check_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """What `restore` checks of `inputs`, before anything costly is prepared for them. Raises as `restore`."""
    if (folder / STATE_FILE).exists():
        _compare(folder / STATE_FILE, load_training_state(folder / STATE_FILE)["numbers"], inputs)


def _compare(path: Path, numbers: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    saved: Mapping[str, str] = numbers.get("inputs", {})  # older checkpoints name none
    for name in inputs:
        if saved.get(name, inputs[name]) != inputs[name]:
            raise ValueError(
                f"{name}: expected the one that {path} was trained for (weights {saved[name]}), got another (weights "
                f"{inputs[name]}); give another out=, or remove that file to train anew"
            )
