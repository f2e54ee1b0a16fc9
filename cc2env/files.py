"""Files and folders as all commands write them: whole or not at all, by one process at a time."""

from model.file_lock import lock_folder
from model.settings_file import keep_settings
from model.tensor_file import load_tensors, save_tensors
from model.whole_file import whole_file, write_text

__all__ = ["keep_settings", "load_tensors", "lock_folder", "save_tensors", "whole_file", "write_text"]
