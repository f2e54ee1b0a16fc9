"""Imports of optional packages; where one is missing, the error names the extra that installs it."""

import importlib
from typing import Any

_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "av": "av (PyAV)"}


def require(module: str, extra: str = "curation") -> Any:
    """Returns the imported module.

    Raises:
        ValueError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ValueError(missing_package(module, extra)) from error


def missing_package(module: str, extra: str = "curation") -> str:
    """Returns the message about a module that is not installed."""
    name = _DISTRIBUTIONS.get(module, module)
    return f"{name}: expected it to be installed, found none; pip install 'cameractrlworld[{extra}]'"
