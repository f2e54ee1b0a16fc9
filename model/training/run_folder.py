"""A run on disk: `training_state.safetensors`, replaced atomically, so that a killed process leaves the last one whole.

For a sharded network it is a folder, `training_state`, of safetensors that all processes write and any number of
processes reads (torch.distributed.checkpoint). A run can read either form and continue in the other one.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model import settings_file
from model.checkpoint import load_training_state, save_training_state
from model.config_file import read_json
from model.file_lock import lock_folder
from model.training import distributed, sharding
from model.training.state import TrainState
from model.whole_file import standing_folder, whole_folder

STATE_FILE = "training_state.safetensors"
STATE_FOLDER = "training_state"
NUMBERS_FILE = "numbers.json"


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Locks the folder for this run, however many processes it has: the first one holds the lock.

    Raises:
        ValueError: another run holds it.
    """
    is_first = os.environ.get("RANK", "0") == "0"  # from torchrun, whose processes are not connected yet
    with lock_folder(folder) if is_first else nullcontext():
        yield


# what may change when a run continues: its length, its output, where it runs, and networks, checked by `inputs`
_FREE = (
    *("out", "device", "num_threads", "install", "num_preview_scenes", "num_held_out", "data.num_workers", "phases"),
    "data.held_out",
    *("vae", "world", "teacher", "generator", "samplers", "training.num_steps", "discriminator.num_steps"),
    "gradient_checkpointing",
    *(
        f"{stage}.fit.{name}"
        for stage in ("training", "discriminator")
        for name in (
            *("sample_every", "checkpoint_steps", "checkpoint_minutes"),
            *("max_skipped_steps", "tensorboard", "progress", "shard", "reduce_every_batch", "compile", "accumulation"),
            "context_parallel",
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
    return any(_is_saved(part) for part in (folder, *parts))


def _is_saved(folder: Path) -> bool:
    return (folder / STATE_FILE).exists() or standing_folder(folder / STATE_FOLDER).exists()


def save(folder: Path, state: TrainState) -> None:
    """Writes the state: process 0 does, while the others wait, or each process writes its shares."""
    if sharding.is_sharded(state.module):
        _save_shares(folder / STATE_FOLDER, state)
    elif distributed.is_main():
        save_training_state(folder / STATE_FILE, {"tensors": state.tensors(), "numbers": state.numbers()})
    if distributed.is_main():  # a state in the other form is from an earlier step
        if sharding.is_sharded(state.module):
            (folder / STATE_FILE).unlink(missing_ok=True)
        elif standing_folder(folder / STATE_FOLDER).exists():
            shutil.rmtree(standing_folder(folder / STATE_FOLDER))
    distributed.barrier()


def _save_shares(folder: Path, state: TrainState) -> None:
    """The folder must be one that all processes see."""
    with whole_folder(folder) if distributed.is_main() else nullcontext(folder) as partial:
        sharding.save(state.tensors(), distributed.broadcast_text(str(partial)))
        if distributed.is_main():
            (partial / NUMBERS_FILE).write_text(json.dumps(state.numbers()), encoding="utf-8")


def restore(folder: Path, state: TrainState) -> bool:
    """Continues from the folder's state, if it has one; returns whether it had.

    Raises:
        ValueError: The file is corrupt, or another model's, another seed's, for other `inputs` or other batches.
    """
    path = standing_folder(folder / STATE_FOLDER)
    if path.exists():
        numbers = read_json(path / NUMBERS_FILE)
        _compare(path, numbers, state.inputs)
        state.check_numbers(numbers)
        sharding.load(path, state.places_for)
        state.load_numbers(numbers)
        return True
    if not (folder / STATE_FILE).exists():
        return False
    saved: dict[str, Any] = load_training_state(folder / STATE_FILE)
    _compare(folder / STATE_FILE, saved["numbers"], state.inputs)
    state.load(saved["tensors"], saved["numbers"])
    return True


def check_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """What `restore` checks of `inputs`, before anything costly is prepared for them. Raises as `restore`."""
    path = standing_folder(folder / STATE_FOLDER)
    if path.exists():
        _compare(path, read_json(path / NUMBERS_FILE), inputs)
    elif (folder / STATE_FILE).exists():
        _compare(folder / STATE_FILE, load_training_state(folder / STATE_FILE)["numbers"], inputs)


def _compare(path: Path, numbers: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    saved: Mapping[str, str] = numbers.get("inputs", {})  # older checkpoints name none
    for name in inputs:
        if saved.get(name, inputs[name]) != inputs[name]:
            raise ValueError(
                f"{name}: expected the one that {path} was trained for (fingerprint {saved[name]}), got another "
                f"(fingerprint {inputs[name]}); give another out=, or remove that file to train anew"
            )
