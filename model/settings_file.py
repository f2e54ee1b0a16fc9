"""`settings.json`: the settings that a folder of results was begun with; a run cannot continue with others."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.whole_file import write_text

SETTINGS_FILE = "settings.json"


def check_settings(
    folder: str | Path, settings: Mapping[str, Any], *, free: Sequence[str] = (), is_begun: bool = True
) -> dict[str, Any]:
    """Compares settings with those that the folder was begun with; a setting that only one of them has does not differ.

    Args:
        folder: Of results.
        settings: Anything JSON can hold; dictionaries in it are groups of settings.
        free: Dotted names of settings, or of groups, that may change.
        is_begun: Whether the folder already holds results; before that, a mistake may still be corrected.

    Returns:
        All settings by their dotted names, the folder's and these.

    Raises:
        ValueError: they do not agree; the message names what differs.
    """
    path = Path(folder) / SETTINGS_FILE
    wanted = json.loads(json.dumps(dict(_flat(settings))))
    found = json.loads(path.read_text(encoding="utf-8")) if is_begun and path.exists() else {}
    differing = [
        f"{name} was {found[name]!r}, is {wanted[name]!r}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name] and not any(name == each or name.startswith(f"{each}.") for each in free)
    ]
    if differing:
        raise ValueError(
            f"out: expected the settings that {path.parent} was begun with, got {'; '.join(differing)}; name another"
        )
    return {**found, **wanted}


def keep_settings(
    folder: str | Path, settings: Mapping[str, Any], *, free: Sequence[str] = (), is_begun: bool = True
) -> None:
    """Writes the settings beside the results, after `check_settings`, with the same arguments and errors."""
    known = check_settings(folder, settings, free=free, is_begun=is_begun)
    write_text(Path(folder) / SETTINGS_FILE, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
