"""The command: loads the world, serves the page, opens the browser, and runs until it is stopped."""

import itertools
import threading
import webbrowser
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from configs.command_line import hydra_command


@dataclass(kw_only=True)
class FlyConfig:
    """`python -m agents.fly`; see `--help`."""

    world: str = "tiny"
    worlds: list[str] = field(default_factory=lambda: ["tiny", "synthetic"])
    sampler: str = "default"
    task: str = "none"
    collision: str = "none"
    image: str | None = None
    prompt: str | None = None
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 8010
    token: str | None = None
    browser: bool = True
    most_tabs: int = 8
    out: str | None = None


def fly(config: FlyConfig) -> None:
    """Serves the page until the command is stopped.

    Raises:
        ValueError: A setting cannot be used, or the place is taken.
        FileNotFoundError: There is no such world.
    """
    from agents.fly.server import FlyServer
    from agents.fly.settings import read_settings
    from cc2env.pictures import load_picture

    worlds = list(dict.fromkeys([config.world, *config.worlds]))
    if config.image is not None:
        load_picture(config.image, 8, 8)
    settings = read_settings(vars(config), worlds, config.image)
    print(f"world {config.world}: loading", flush=True)
    out = _new_folder() if config.out is None else Path(config.out)
    place = {"host": config.host, "port": config.port, "token": config.token, "most_tabs": config.most_tabs}
    server = FlyServer(settings, worlds, out, **place)
    print(f"fly at {server.address} (stop with Ctrl-C)", flush=True)
    if config.browser:
        webbrowser.open(server.address)
    try:
        threading.Event().wait()
    finally:
        server.close()


def _new_folder() -> Path:
    """Returns the name of a folder that is not there yet; it is made when something is saved."""
    base = Path("runs") / "fly" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = itertools.chain([base], (base.with_name(f"{base.name}_{count}") for count in itertools.count(2)))
    return next(name for name in names if not name.exists())


main = hydra_command("configs", "fly", FlyConfig, fly, "stopped")
