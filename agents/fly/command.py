"""The command: loads the world, serves the page, opens the browser, and runs until it is stopped."""

import itertools
import threading
import webbrowser
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command_line import hydra_command

if TYPE_CHECKING:
    from agents.fly.record import Flight
    from agents.fly.settings import Settings


@dataclass(kw_only=True)
class FlyConfig:
    """`python -m agents.fly`; see `--help`; without a sampler, `small` takes `fast`, other worlds `default`."""

    world: str = "small"
    worlds: list[str] = field(default_factory=lambda: ["tiny", "small", "synthetic"])
    sampler: str | None = None
    task: str = "none"
    collision: str = "none"
    image: str | None = None
    prompt: str | None = None
    seed: int = 0
    device: str = "cpu"
    host: str = "127.0.0.1"
    port: int = 8010
    token: str | None = None
    browser: bool = True
    load: str | None = None
    replay: str | None = None
    most_tabs: int = 8
    out: str | None = None


def fly(config: FlyConfig) -> None:
    """Serves the page until the command is stopped, or flies a saved flight again.

    Raises:
        ValueError: A setting cannot be used, the port is taken, or a repeated flight differs.
        FileNotFoundError: There is no such world.
    """
    from agents.fly.record import load_flight
    from agents.fly.replay import replay_flight
    from agents.fly.settings import REAL_TIME_SAMPLERS, read_settings
    from cc2env.pictures import load_picture

    if config.replay is not None:
        return replay_flight(load_flight(config.replay))
    if config.image is not None:
        load_picture(config.image, 8, 8)
    sampler = config.sampler or REAL_TIME_SAMPLERS.get(config.world, "default")
    settings = read_settings(vars(config) | {"sampler": sampler}, [config.world], config.image, config.device)
    flight = None if config.load is None else load_flight(config.load)
    _serve(config, settings if flight is None else replace(flight.settings, device=config.device), flight)


def _serve(config: FlyConfig, settings: "Settings", flight: "Flight | None") -> None:
    from agents.fly.server import FlyServer

    print(f"world {settings.world}: loading", flush=True)
    worlds = list(dict.fromkeys([settings.world, config.world, *config.worlds]))
    out = _new_folder() if config.out is None else Path(config.out)
    place = {"host": config.host, "port": config.port, "token": config.token, "most_tabs": config.most_tabs}
    server = FlyServer(settings, worlds, out, flight, **place)
    print(f"fly at {server.address} (stop with Ctrl-C)", flush=True)
    if config.browser:
        webbrowser.open(server.address)
    try:
        threading.Event().wait()
    finally:
        server.close()


def _new_folder() -> Path:
    """Returns the name of a new folder, which is made when something is saved."""
    base = Path("runs") / "fly" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = itertools.chain([base], (base.with_name(f"{base.name}_{count}") for count in itertools.count(2)))
    return next(name for name in names if not name.exists())


main = hydra_command("configs.fly", "config", FlyConfig, fly, "stopped")
