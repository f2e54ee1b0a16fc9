"""A headless browser, and pages of a server that flies in the synthetic world."""

import shutil
import time
import warnings

import pytest

from agents.fly.server import FlyServer
from agents.fly.settings import Settings

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        warnings.warn("NO BROWSER: the page is not tested; apt-get install chromium", stacklevel=1)
        pytest.skip("no browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    out = tmp_path_factory.mktemp("fly")
    opened = FlyServer(Settings(world="synthetic", seed=3), ["synthetic", str(out / "missing")], out, port=0)
    yield opened
    opened.close()


class OpenPage:
    """A page, and what tests ask of it. The page's own policy stays in force: nothing is evaluated inside it."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.wait("flight.clips.size > 0")

    def get(self, expression):
        return self.page.evaluate(expression)

    def wait(self, expression, seconds=120):
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"never: {expression}; {self.page.inner_text('#flight')}"
            time.sleep(0.05)

    def digests(self):
        return self.get("Object.fromEntries([...flight.clips.values()].map(c => [c.clip, c.sha256]))")

    def tap(self, key):
        """Presses a key until its clip has begun, and waits for the end of it."""
        before = self.get("flight.state.shown")
        self.page.keyboard.down(key)
        self.page.keyboard.up(key)
        self.wait(f"flight.state.shown !== {before} && !flight.film.isPlaying && flight.state.held === null")
        return self.get("flight.state.shown")


@pytest.fixture
def open_page(browser, server):
    opened = []

    def open_one(address=server.address):
        opened.append(OpenPage(browser, address))
        return opened[-1]

    yield open_one
    for each in opened:
        each.page.close()
        assert not each.errors
