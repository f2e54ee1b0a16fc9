"""Serves one open page: while a key is held, clips follow each other, each made while the last one plays."""

import functools
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.fly.clip_facts import clip_facts
from agents.fly.record import Flight, load_flight, save_flight, saved_flights
from agents.fly.session import ROOT, Clip, Session, open_session
from agents.fly.settings import CHOICES, REAL_TIME_SAMPLERS, Settings, read_settings
from agents.fly.worker import Worker
from agents.point_cloud import fuse
from agents.reconstruct import session_views, write_scene
from cc2env.pictures import load_picture
from cc2env.viewer.messages import clip_message, points_message
from cc2env.viewer.page_server import Tab

# Besides the letters of the key map, the arrows turn.
ARROWS = {"ArrowLeft": "pan_left", "ArrowRight": "pan_right", "ArrowUp": "tilt_up", "ArrowDown": "tilt_down"}
_MOST_PICTURES = 50
_MOST_JOBS = 8  # jobs that may wait for one page


class PageController:
    """Connects a tab, its session and the worker.

    The page says which key is held and which clip it shows. The worker makes the next clip while the shown one plays.
    A clip that was made ahead for a released key is dropped: steering takes effect with the next clip.

    Args:
        tab: The page.
        worker: Makes the clips of all tabs.
        settings: Settings of the first session.
        worlds: Worlds that the page may choose from.
        folder: Folder for what this tab saves; made at the first save.
        ready: A session that is already open with these settings.
        flight: A saved flight that is flown first.
    """

    def __init__(
        self,
        tab: Tab,
        worker: Worker,
        settings: Settings,
        worlds: Sequence[str],
        folder: Path,
        ready: Session | None = None,
        flight: Flight | None = None,
    ) -> None:
        self._tab, self._worker, self._worlds, self._folder = tab, worker, worlds, folder
        self._settings, self._image, self._flight = settings, settings.image, flight
        self._device = settings.device  # the command's: no page and no flight that it loads changes it
        self._session, self._opened = ready, 0
        # The page's state: the clip that it shows, the held key, a new prompt, and a clip not shown yet.
        self._shown, self._held = ROOT, ""
        self._prompt: str | None = None
        self._ahead: Clip | None = None
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_closed, self._num_pictures = False, 0
        self._lock = threading.RLock()  # guards these; only the worker uses the session itself
        self._calls: dict[Any, Callable[[dict[str, Any]], None]] = {
            "hold": self._hold,
            "playing": self._playing,
            "go": self._go,
            "prompt": self._set_prompt,
            "reset": self._reset,
            "save": self._save,
            "points": self._points,
            "load": self._load,
            "no_picture": self._no_picture,
        }

    def run(self) -> None:
        """Serves the page until it is closed; then the session is freed."""
        choices = {**CHOICES, "worlds": self._worlds, "flights": self._flights()}
        self._tab.send({"type": "hello", "mode": "fly", "real_time_samplers": REAL_TIME_SAMPLERS, **choices})
        self._submit(functools.partial(self._start, self._settings, self._flight))
        try:
            for message in self._tab.messages():
                self._receive(message)
        finally:
            with self._lock:
                self._is_closed = True
            self._worker.cancel(self)
            if self._session is not None:
                self._session.close()

    def show_queue(self) -> None:
        """Tells the page how many jobs of other tabs come before its own."""
        self._tab.send({"type": "queue", "before": self._worker.before(self)})

    def _receive(self, message: dict[str, Any] | bytes) -> None:
        try:
            if isinstance(message, bytes):
                self._take_picture(message)
            elif (call := self._calls.get(_word(message.get("type")))) is not None:
                call(message)
            else:
                raise ValueError(f"message: expected one of {list(self._calls)}, got {message.get('type')!r:.80}")
        except (ValueError, OSError) as error:
            self._complain(error)

    def show_failure(self, error: BaseException) -> None:
        """Shows an error of the program itself in the page; the terminal has the traceback."""
        traceback.print_exception(error)
        self._complain(RuntimeError(f"this did not work ({type(error).__name__}); the terminal says more"))

    def _complain(self, error: Exception) -> None:
        self._tab.send({"type": "error", "text": str(error)})

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if len(self._jobs) >= _MOST_JOBS:
                raise ValueError("too much at once: wait for the answer")
            if job not in self._jobs:
                self._jobs.append(job)
        self._worker.submit(self, self._work)
        self.show_queue()

    def _work(self) -> None:
        """Runs the next job in the worker; an error in the input becomes a message in the page."""
        with self._lock:
            if not self._jobs:
                return  # the page closed, or the job has run already
            job = self._jobs.popleft()
        try:
            job()
        except (ValueError, OSError) as error:
            self._complain(error)
        with self._lock:
            goes_on = bool(self._jobs) and not self._is_closed
        if goes_on:
            self._worker.submit(self, self._work)  # after other tabs
        self.show_queue()

    # What the page asks for

    def _hold(self, message: dict[str, Any]) -> None:
        key = message.get("key")
        if key and (self._session is None or key not in self._session.keys):
            raise ValueError(f"key: expected a name of the key map, got {key!r:.80}")
        with self._lock:
            self._held = key or ""
        self._plan()

    def _playing(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self._ahead is None or self._ahead.index != message.get("clip"):
                self._tab.send({"type": "at", "clip": self._shown})  # it was dropped meanwhile
                return
            self._ahead.was_shown = True
            self._shown, self._ahead = self._ahead.index, None
        self._plan()

    def _go(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._held = ""
        self._submit(functools.partial(self._jump, message.get("clip")))

    def _set_prompt(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._prompt = read_settings({"prompt": message.get("text")}, [Settings.world], None).prompt

    def _save(self, message: dict[str, Any]) -> None:
        self._submit(functools.partial(self._write, message.get("clip")))

    def _points(self, message: dict[str, Any]) -> None:
        self._submit(functools.partial(self._reconstruct, message.get("clip")))

    def _load(self, message: dict[str, Any]) -> None:
        flights = {f"{path.parent.name}/{path.name}": path for path in saved_flights(self._folder.parent)}
        if (name := message.get("name")) not in flights:
            raise ValueError(f"flight: expected one of {list(flights)}, got {name!r:.80}; save one first")
        flight = load_flight(flights[name], self._worlds)
        settings = replace(flight.settings, device=self._device)
        self._submit(functools.partial(self._start, settings, flight))

    def _reset(self, message: dict[str, Any]) -> None:
        settings = read_settings(message, self._worlds, self._image, self._device)
        with self._lock:
            self._held = ""
        self._submit(functools.partial(self._open, settings))

    def _take_picture(self, data: bytes) -> None:
        """Keeps a picture for the next reset: we choose its file name, and check its size before it is decoded."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._num_pictures >= _MOST_PICTURES:
            raise ValueError(f"picture: expected at most {_MOST_PICTURES} in one session, got another; open a new tab")
        self._num_pictures += 1
        path = self._folder / f"picture-{self._num_pictures}"  # flights from earlier pictures may still be saved
        path.write_bytes(data)
        load_picture(path, 8, 8)
        self._image = str(path)
        self._tab.send({"type": "picture", "bytes": len(data)})

    def _no_picture(self, message: dict[str, Any]) -> None:
        self._image = None
        self._tab.send({"type": "picture", "bytes": 0})

    # What the worker does

    def _start(self, settings: Settings, flight: Flight | None) -> None:
        """Opens an episode and flies a saved flight, one clip at a time, so that other tabs get their turn."""
        if self._opened or self._session is None:
            self._open(settings)
        else:
            self._show_start()
        if flight is not None:
            self._jobs.append(functools.partial(self._refly_next, self._opened, flight, [ROOT]))

    def _open(self, settings: Settings) -> None:
        """Opens an episode, in a new environment if the settings need one; if that fails, the old one stays."""
        old = self._session
        if old is not None and settings.has_env_of(self._settings):
            old.reset(settings.seed, settings.options())
            session = old
        else:
            self._tab.send({"type": "note", "text": f"loading the world {settings.world} ..."})
            session = open_session(settings)
            if old is not None:
                old.close()
        with self._lock:
            self._session, self._settings, self._opened = session, settings, self._opened + 1
            self._shown, self._ahead, self._held, self._prompt = ROOT, None, "", None
        self._show_start()

    def _show_start(self) -> None:
        session, settings = self._session, self._settings
        assert session is not None
        keys = {**session.letters, **ARROWS, " ": "stay"}
        opened = {**settings.as_json(), "image": settings.image is not None, "fps": session.fps, "keys": keys}
        self._tab.send({"type": "opened", **opened, "key_map": session.key_map})
        self._send_clip(session.clips[ROOT])

    def _plan(self) -> None:
        """Orders the next clip, if a key is held and the clip after the shown one is not made yet."""
        with self._lock:
            is_wanted = bool(self._held) and not self._is_ready(self._held)
        if is_wanted:
            self._submit(self._make_next)

    def _make_next(self) -> None:
        with self._lock:
            session, shown, key, prompt = self._session, self._shown, self._held, self._prompt
            if session is None or not key or self._is_ready(key):
                return
            self._drop_ahead(session)
        try:
            clip = session.fly(shown, key, prompt)
        except ValueError:
            with self._lock:
                self._prompt = None  # a refused prompt would block every clip
            raise
        with self._lock:
            self._ahead = clip
        self._send_clip(clip)

    def _is_ready(self, key: str) -> bool:
        """Returns whether the clip that this key would show next is made already."""
        ahead = self._ahead
        return ahead is not None and ahead.key == key and self._prompt in (None, ahead.info["prompt"])

    def _drop_ahead(self, session: Session) -> None:
        if self._ahead is not None:
            session.drop(self._ahead.index)
            self._tab.send({"type": "dropped", "clip": self._ahead.index})
            self._ahead = None

    def _jump(self, index: Any) -> None:
        """Goes back to a clip: the next key flies on from there."""
        session = self._session
        if session is None:
            return
        with self._lock:
            self._drop_ahead(session)
            session.path(index)  # raises where there is no such clip
            self._shown, self._prompt = index, None  # the prompt there is that clip's
        self._tab.send({"type": "at", "clip": index})

    def _write(self, index: Any) -> None:
        if self._session is not None:
            path = save_flight(self._folder, self._session, index, self._settings)
            command = f"python -m agents.fly replay={path}"
            self._tab.send({"type": "saved", "folder": str(path), "command": command, "flights": self._flights()})

    def _reconstruct(self, index: Any) -> None:
        """Shows the scene along the way to a clip as points, and writes it beside the saved flights."""
        if (session := self._session) is None:
            return
        views = session_views(session, index)
        points = fuse(views)
        folder = self._folder / f"reconstruction-{index:04d}"
        write_scene(folder, views, points)
        self._tab.send(points_message(points.xyz, points.rgb))
        self._tab.send({"type": "note", "text": f"{len(points.xyz)} points: {folder}"})

    def _flights(self) -> list[str]:
        return [f"{path.parent.name}/{path.name}" for path in saved_flights(self._folder.parent)]

    def _refly_next(self, opened: int, flight: Flight, flown: list[int]) -> None:
        """Flies the next clip of a flight and its branches, then goes to the end of the flight."""
        session = self._session
        if session is None or opened != self._opened:
            return  # the page went on to another episode
        if len(flown) > len(flight.tree):
            return self._jump(flown[len(flight.moves)])
        parent, key, prompt = flight.tree[len(flown) - 1]
        clip = session.fly(flown[parent], key, prompt)
        clip.was_shown = True
        self._send_clip(clip, is_loaded=True)
        self._jobs.append(functools.partial(self._refly_next, opened, flight, [*flown, clip.index]))

    def _send_clip(self, clip: Clip, is_loaded: bool = False) -> None:
        assert self._session is not None
        self._tab.send(clip_message({**clip_facts(clip), "loaded": is_loaded}, clip.frames))


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
