"""The page for several people at once: they share one worker, and each tab has its own session."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.fly.controller import PageController
from agents.fly.record import Flight
from agents.fly.session import Session, open_session
from agents.fly.settings import Settings
from agents.fly.worker import Worker
from cc2env.viewer.page_server import PageServer, Tab


class FlyServer:
    """Loads the world and serves the page.

    Args:
        settings: Settings with which every tab opens.
        worlds: Names and folders that a page may choose from.
        out: Folder for saved flights, with a folder for each tab.
        flight: A saved flight that every tab flies first.
        place: Host, port, token and most_tabs of the `PageServer`.

    Attributes:
        address: URL of the page.

    Raises:
        ValueError: A setting cannot be used, or the port is taken.
        FileNotFoundError: There is no such world.
    """

    def __init__(
        self,
        settings: Settings,
        worlds: Sequence[str],
        out: Path,
        flight: Flight | None = None,
        **place: Any,
    ) -> None:
        self._settings, self._worlds, self._out, self._flight = settings, worlds, out, flight
        self._ready: Session | None = open_session(settings)  # for the first tab, which then opens at once
        self._controllers: list[PageController] = []
        self._worker = Worker(self._show_queues, PageController.show_failure)
        self._lock = threading.Lock()
        self._pages = PageServer(self._serve, **place)
        self.address = self._pages.address

    @property
    def num_sessions(self) -> int:
        """The number of tabs with a session."""
        return len(self._controllers)

    def close(self) -> None:
        """Ends the server and the worker."""
        self._pages.close()
        self._worker.close()

    def _serve(self, tab: Tab) -> None:
        folder = self._out / f"session-{tab.number}"
        with self._lock:
            ready, self._ready = self._ready, None
        controller = PageController(tab, self._worker, self._settings, self._worlds, folder, ready, self._flight)
        self._controllers.append(controller)
        try:
            controller.run()
        finally:
            self._controllers.remove(controller)

    def _show_queues(self) -> None:
        for controller in list(self._controllers):
            controller.show_queue()
