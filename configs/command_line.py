"""Command lines as people write them: commas, quotes, `${...}` and the like are text in every text setting."""

import functools
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any


def plain_text(schema: type) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Decorates a Hydra main: values of the schema's text settings are taken as they stand.

    A sweep (`--multirun`) keeps Hydra's grammar, because its commas part the runs.

    Args:
        schema: The dataclass of the command's settings; its fields of type `str` and `str | None` are text, and so
            are those of the dataclasses in it.
    """
    settings = frozenset(text_settings(schema))

    def decorate(main: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(main)
        def run() -> Any:
            if not {"-m", "--multirun"} & set(sys.argv[1:]):
                sys.argv[1:] = [quote_text(argument, settings) for argument in sys.argv[1:]]
            return main()

        return run

    return decorate


def text_settings(schema: type, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of a dataclass's text settings."""
    for name, hint in typing.get_type_hints(schema).items():
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if str in kinds:
            yield prefix + name
        for kind in kinds:
            if is_dataclass(kind):
                yield from text_settings(typing.cast(type, kind), f"{prefix}{name}.")


def quote_text(argument: str, settings: frozenset[str]) -> str:
    """Returns a word of the command line with its value quoted where it is a text, so that Hydra takes it as it stands.

    A value that is wholly in quotes already, or `null`, is left as it is.
    """
    key, separator, value = argument.partition("=")
    if not separator or key.lstrip("+") not in settings or value in ("", "null") or _is_quoted(value):
        return argument
    # OmegaConf interpolates after Hydra has read the quotes: only a dollar behind an odd number of backslashes is text
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    # Hydra reads backslashes as escapes only before a quote, and before the closing one
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"{key}='{value}'"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] and value[0] not in value[1:-1]
