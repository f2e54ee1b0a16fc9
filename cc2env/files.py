"""Files for agents, re-exported: atomic writes, locks on folders, settings, fingerprints, shipped worlds."""

from model.checkpoint import load_training_state, save_training_state
from model.file_lock import lock_folder
from model.fingerprint import fingerprint
from model.pretrained import shipped_worlds
from model.settings_file import keep_settings
from model.tensor_file import load_tensors, save_tensors
from model.whole_file import whole_file, write_text
from model.world.folder import world_fingerprint

__all__ = [
    "fingerprint",
    "keep_settings",
    "load_tensors",
    "load_training_state",
    "lock_folder",
    "save_tensors",
    "save_training_state",
    "shipped_worlds",
    "whole_file",
    "world_fingerprint",
    "write_text",
]
