"""Hydra commands: settings as people write them (commas, quotes, `${...}` are text), errors and stops in one line."""

import functools
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

# in the defaults of every command: no folders, files and log lines of Hydra's own, since each command writes into `out`
ConfigStore.instance().store(
    name="no_hydra_files",
    package="_global_",
    node={
        "defaults": [{"override /hydra/job_logging": "none"}, {"override /hydra/hydra_logging": "none"}],
        "hydra": {"run": {"dir": "."}, "output_subdir": None},
    },
)


def hydra_command(
    folder: str,
    name: str,
    schema: type,
    run: Callable[[Any], object],
    stopped: str = "stopped; the same command goes on",
) -> Callable[[], None]:
    """Returns a main that reads a `schema` from the command line and runs it; an input error prints one line.

    The schema is registered for the defaults of the YAML file: `train_schema` for the folder `configs.train` and its
    `config`, `curate_import_schema` for `configs.curate` and `import`.

    Args:
        folder: The package of the command's YAML file, such as `configs.train`.
        name: That file, without its ending.
        schema: The dataclass of the settings.
        run: What the command does.
        stopped: The line after Ctrl-C or SIGTERM.
    """
    words = [*folder.split(".")[1:], *([] if name in ("config", "run") else [name])]
    ConfigStore.instance().store(name="_".join([*words, "schema"]), node=schema)

    @stops_in_one_line(stopped)
    @plain_text(schema)
    @hydra.main(version_base=None, config_path=f"pkg://{folder}", config_name=name)
    def main(config: DictConfig) -> None:
        try:
            settings = OmegaConf.to_object(config)
            assert isinstance(settings, schema)
            run(settings)
        except MissingMandatoryValue as error:
            sys.exit(f"error: {error.full_key}: expected a value, got none; see --help")
        except (ValueError, OSError, FloatingPointError, OmegaConfBaseException) as error:
            sys.exit(f"error: {error}")

    return main


def plain_text(schema: type) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Decorates a Hydra main: values of the schema's text settings are taken literally.

    A sweep (`--multirun`) keeps Hydra's grammar, because its commas separate the runs.

    Args:
        schema: The dataclass of the command's settings; its fields of type `str` and `str | None` are text, those of
            type `list[str]` lists of texts, and those of type `dict[str, str]` hold texts by name. The same holds for
            dataclasses in it.
    """
    settings = text_settings(schema)

    def decorate(main: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(main)
        def run() -> Any:
            if not {"-m", "--multirun"} & set(sys.argv[1:]):
                sys.argv[1:] = [quote_text(argument, settings) for argument in sys.argv[1:]]
            return main()

        return run

    return decorate


def stops_in_one_line(said: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Decorates a main: Ctrl-C and SIGTERM end it with one line and the shell's code, 130 and 143.

    Args:
        said: The line, unless the interrupt carries its own message.
    """

    def decorate(main: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(main)
        def run() -> Any:
            before = signal.signal(signal.SIGTERM, _terminate)
            try:
                return main()
            except KeyboardInterrupt as stop:
                print(f"\n{str(stop) or said}", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            except _Terminated:
                print(f"\n{said}", file=sys.stderr)
                sys.exit(128 + signal.SIGTERM)
            finally:
                signal.signal(signal.SIGTERM, before)

        return run

    return decorate


class _Terminated(BaseException):
    """Raised at SIGTERM, as KeyboardInterrupt at Ctrl-C, so that open files are closed."""


def _terminate(number: int, frame: types.FrameType | None) -> None:
    raise _Terminated


@dataclass(frozen=True)
class TextSettings:
    """The dotted names of a command's settings that are text.

    Attributes:
        texts: Settings of one text.
        lists: Settings that are lists of texts.
        by_name: Settings that hold texts by name: `SETTING.name` is a text.
    """

    texts: frozenset[str]
    lists: frozenset[str]
    by_name: frozenset[str]


def text_settings(schema: type) -> TextSettings:
    """Returns the text settings of a dataclass."""
    kinds: dict[Any, set[str]] = {str: set(), list[str]: set(), dict[str, str]: set()}
    for name, kind in _settings(schema):
        if kind in kinds:
            kinds[kind].add(name)
    return TextSettings(*map(frozenset, kinds.values()))


def _settings(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(schema).items():
        for kind in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
            if is_dataclass(kind):
                yield from _settings(typing.cast(type, kind), f"{prefix}{name}.")
            else:
                yield prefix + name, kind


def quote_text(argument: str, settings: TextSettings) -> str:
    """Returns a word of the command line with its value quoted if it is a text, so that Hydra takes it literally.

    A value that is wholly in quotes already, or `null`, is left as it is. In a list, `[a, b]`, commas outside of quotes
    separate the texts; one text without brackets is a list of one.
    """
    key, separator, value = argument.partition("=")
    name = key.lstrip("+")
    if not separator or value in ("", "null"):
        return argument
    if name in settings.lists:
        items = _items(value[1:-1]) if value[0] == "[" and value[-1] == "]" else [value]
        return f"{key}=[{','.join(map(_quoted, items))}]"
    if name in settings.texts or name.rpartition(".")[0] in settings.by_name:
        return f"{key}={_quoted(value)}"
    return argument


def _items(values: str) -> list[str]:
    """Texts between commas; a comma in quotes separates nothing."""
    found = re.findall(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]*?)\s*(?:,|$)""", values)
    return [item for item in found if item]


def _quoted(value: str) -> str:
    if _is_quoted(value):
        return value
    # OmegaConf interpolates after Hydra has read the quotes: only a dollar after an odd number of backslashes is text
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    # Hydra reads backslashes as escapes only before a quote, the closing one included
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"'{value}'"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] and value[0] not in value[1:-1]
