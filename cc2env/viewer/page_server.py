"""A local page with a WebSocket: fixed files, a limit of tabs, and checks of who connects."""

import hmac
import ipaddress
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

MOST_BYTES = 8 * 2**20  # of one message from the page: a picture
_MOST_WAITING = 256  # a tab with more unread messages is closed
# The only files that are served: no part of a request ever becomes a path.
_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/film.js": ("film.js", "text/javascript"),
    "/map.js": ("map.js", "text/javascript"),
    "/tree.js": ("tree.js", "text/javascript"),
}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'"


class Tab:
    """An open page. Messages to it wait in its own queue, so that a slow tab delays no other.

    Attributes:
        number: Counted from 1 over the life of the server.
    """

    def __init__(self, connection: ServerConnection, number: int) -> None:
        self.number = number
        self._connection = connection
        self._waiting: queue.Queue[str | bytes | None] = queue.Queue(_MOST_WAITING)
        self._sender = threading.Thread(target=self._send_waiting, name=f"tab {number}", daemon=True)
        self._sender.start()

    def send(self, message: dict[str, Any] | bytes) -> None:
        """Sends a JSON object or bytes, soon; never blocks and never raises."""
        try:
            self._waiting.put_nowait(message if isinstance(message, bytes) else json.dumps(message))
        except queue.Full:
            self._connection.close_socket()

    def messages(self) -> Iterator[dict[str, Any] | bytes]:
        """Yields what the page sends until it is closed; text that is no JSON object comes as `{"type": None}`."""
        try:
            for message in self._connection:
                yield message if isinstance(message, bytes) else _read(message)
        except ConnectionClosed:
            return

    def close(self) -> None:
        """Sends the waiting messages, then stops the sender."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._connection.close_socket()

    def _send_waiting(self) -> None:
        try:
            while (message := self._waiting.get()) is not None:
                self._connection.send(message)
        except ConnectionClosed:
            pass


class PageServer:
    """Serves the page, and each of its tabs in its own thread.

    Without a token only this machine can connect, and only pages that came from this server: a page of another site
    in the same browser is refused by its `Origin`, a foreign name for this address by its `Host`.

    Args:
        serve_tab: Called with each tab; returns when the tab is done.
        host: Address to listen at; any but this machine's own needs a token.
        port: 0 takes a free one.
        token: Whoever connects must know it.
        most_tabs: Tabs open at the same time; further ones are refused, with a message.

    Raises:
        ValueError: The host is not this machine's own and there is no token, the token is short, or the port is taken.
    """

    def __init__(
        self,
        serve_tab: Callable[[Tab], None],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        most_tabs: int = 8,
    ) -> None:
        self._is_local = _is_loopback(host)
        if not self._is_local and token is None:
            raise ValueError(f"host: expected 127.0.0.1 without a token, got {host}; give token= too")
        if token is not None and len(token) < 8:
            raise ValueError(f"token: expected at least 8 characters, got {len(token)}; choose a longer one")
        self._serve_tab, self._token, self._most_tabs = serve_tab, token, most_tabs
        self._pages = {path: (files(__package__) / "page" / name).read_bytes() for path, (name, _) in _FILES.items()}
        self._lock, self._number, self._open = threading.Lock(), 0, 0
        logger = logging.Logger("cc2env.viewer", logging.CRITICAL)  # wrong requests are not logged
        try:
            self._server: Server = serve(
                self._handle, host, port, process_request=self._answer, max_size=MOST_BYTES, logger=logger
            )
        except (OSError, OverflowError) as error:
            raise ValueError(f"host, port: expected a free place, got {host}:{port} ({error}); give port=0") from error
        self.port: int = self._server.socket.getsockname()[1]
        query = "" if token is None else f"?token={quote(token)}"
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{query}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="page server", daemon=True)
        self._thread.start()

    @property
    def open_tabs(self) -> int:
        """The number of open tabs."""
        return self._open

    def close(self) -> None:
        """Stops listening; open tabs end with the process."""
        self._server.shutdown()
        self._thread.join(timeout=5)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers a request for a file; None lets a WebSocket through."""
        address = urlsplit(request.path)
        if not self._is_from_here(request.headers):
            return connection.respond(HTTPStatus.FORBIDDEN, "Only this server's own page may connect.\n")
        if address.path in ("/", "/tab") and not self._knows_token(address.query):
            return connection.respond(HTTPStatus.FORBIDDEN, "The address needs ?token=...\n")
        if address.path == "/tab":
            return None
        if address.path not in _FILES:
            return connection.respond(HTTPStatus.NOT_FOUND, "There is no such page.\n")
        body, kind = self._pages[address.path], _FILES[address.path][1]
        headers = Headers(
            {
                "Content-Type": f"{kind}; charset=utf-8",
                "Content-Length": str(len(body)),
                "Connection": "close",
                "Content-Security-Policy": _POLICY,
                "Referrer-Policy": "no-referrer",  # the address may hold the token
                "X-Frame-Options": "DENY",
                "Cache-Control": "no-store",
            }
        )
        return Response(HTTPStatus.OK, "OK", headers, body)

    def _is_from_here(self, headers: Headers) -> bool:
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or len(origins) > 1:
            return False
        if self._is_local and not _is_loopback(urlsplit(f"//{hosts[0]}").hostname or ""):
            return False
        return not origins or urlsplit(origins[0]).netloc == hosts[0]

    def _knows_token(self, query: str) -> bool:
        if self._token is None:
            return True
        given = parse_qs(query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _handle(self, connection: ServerConnection) -> None:
        with self._lock:
            is_full = self._open >= self._most_tabs
            self._open += not is_full
            self._number += 1
            tab = Tab(connection, self._number)
        try:
            if is_full:
                tab.send({"type": "error", "text": f"all {self._most_tabs} places are taken; close a tab"})
            else:
                self._serve_tab(tab)
        finally:
            tab.close()
            with self._lock:
                self._open -= not is_full
        if is_full:
            tab._sender.join(timeout=5)


def _read(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {"type": None}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
