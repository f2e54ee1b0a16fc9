"""A run on disk: `training_state.safetensors`, replaced atomically, so that a kill leaves the last one whole."""

from pathlib import Path
from typing import Any

from model.checkpoint import load_training_state, save_training_state
from model.training import distributed
from model.training.state import TrainState

STATE_FILE = "training_state.safetensors"


def save(folder: Path, state: TrainState) -> None:
    """Writes the state; process 0 writes, all take part, since a sharded state must be gathered."""
    tensors = state.tensors()
    if distributed.is_main():
        save_training_state(folder / STATE_FILE, {"tensors": tensors, "numbers": state.numbers()})
    distributed.barrier()


def restore(folder: Path, state: TrainState) -> bool:
    """Continues from the folder's state, if it has one; returns whether it had.

    Raises:
        ValueError: The file is corrupt, or another model's or another seed's.
    """
    if not (folder / STATE_FILE).exists():
        return False
    saved: dict[str, Any] = load_training_state(folder / STATE_FILE)
    state.load(saved["tensors"], saved["numbers"])
    return True
