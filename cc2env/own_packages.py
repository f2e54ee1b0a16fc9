"""Our packages have common names, and a file of the user's of the same name is found first; this says which one."""

import importlib.util
import sys
from pathlib import Path


def require_own(*names: str) -> None:
    """Checks that packages that lie beside this one are what an import of their names finds.

    Raises:
        ImportError: another file or folder is found; the message names it.
    """
    for name in names:
        own = Path(__file__).resolve().parents[1] / name
        found = _found(name)
        if found is not None and found not in (own, own / "__init__.py"):
            raise ImportError(
                f"cc2env: expected its own package {name!r} in {own}, but {found} is in the way; "
                "rename that one, or take its folder off Python's path (sys.path)"
            )


def _found(name: str) -> Path | None:
    """The file, or a folder without `__init__.py`, that the name stands for; nothing of it runs."""
    if name in sys.modules:
        places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", ())]
    else:
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return next((Path(place).resolve() for place in places if place), None)
