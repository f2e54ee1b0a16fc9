"""Configuration files from anywhere: YAML into a dataclass, JSON into a dictionary; every fault is a ValueError."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

C = TypeVar("C")

_MOST_BYTES = 16 * 2**20


def read_yaml(path: Path, schema: type[C]) -> C:
    """Returns the dataclass that a YAML file describes; settings that it leaves out have their defaults.

    Raises:
        ValueError: It is no YAML, has aliases, more than 16 MiB or unknown keys, or a value is of the wrong type or out
            of range.
    """
    values = read_mapping(path)
    known = {field.name for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, values.keys() - known)):
        raise ValueError(f"{path}: expected settings of {schema.__name__}, got unknown {unknown}; remove them")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), _without_interpolation(values)))
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected settings of {schema.__name__}, got {_one_line(error)}; correct them"
        ) from error
    assert isinstance(config, schema)
    return config


def read_mapping(path: Path) -> dict[Any, Any]:
    """Returns the settings of a YAML file as they stand.

    Raises:
        ValueError: It is no YAML, has aliases or more than 16 MiB, or is no mapping.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path}: expected at most {_MOST_BYTES} bytes, got {path.stat().st_size}; shorten it")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected YAML, got {_one_line(error)}; correct it or fetch it again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings, got {type(values).__name__}; correct it")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object of a JSON file.

    Raises:
        ValueError: It is no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}; correct it or fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; fetch it again")
    return content


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines with them can expand to more values than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name); write its value out")
        return super().compose_node(parent, index)


def _without_interpolation(value: Any) -> Any:
    r"""Returns the values with every `${` escaped, or OmegaConf would replace it: a prompt may contain one, and must
    not show this machine's environment. Backslashes before it are doubled, as OmegaConf's grammar requires."""
    if isinstance(value, dict):
        return {_without_interpolation(key): _without_interpolation(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_interpolation(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())  # YAML's errors are eight lines
