"""The folder of a world: its place, a fingerprint of the weights and settings in it, and errors that name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.fingerprint import fingerprint
from model.pretrained import shipped_folder, shipped_worlds
from model.world.registry import factory_version, world_factory, world_names


def world_folder(world: str | Path) -> Path:
    """Returns the folder of a world that is neither rendered nor registered by name.

    Raises:
        FileNotFoundError: There is none.
    """
    folder = shipped_folder(str(world)) if world in shipped_worlds() else Path(world)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"world: expected {', '.join(map(repr, world_names()))} or a folder, got {str(world)!r} but there is no "
            f"{folder}; "
            "check the path, or train a world first"
        )
    return folder.resolve()


def world_fingerprint(world: str | Path) -> str:
    """Returns 16 digits that identify a world's weights and settings: they change when it is trained again.

    For a registered world they identify the place and the version of its factory: its weights are not known.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if world_factory(str(world)) is not None:
        return fingerprint(factory_version(str(world)).encode())[:16]
    folder = world_folder(world)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".pt", ".pth", ".yaml"))
    return fingerprint(*(part for path in paths for part in (str(path.relative_to(folder)), path)))[:16]


def folder_stamp(folder: Path) -> int:
    """A number that changes with every file of the world, so that no process gets outdated weights from a cache."""
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hash(tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats))


@contextmanager
def named_errors(folder: Path) -> Iterator[None]:
    """Errors say which world could not be loaded."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"world: {folder} is incomplete: {error}") from error
    except ValueError as error:
        raise ValueError(f"world: {folder} cannot be loaded: {error}") from error
