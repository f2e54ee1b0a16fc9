"""A page that shows the running episode at the film's own pace; the environment never waits for the page."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from cc2env.viewer.messages import clip_message, plain_poses
from cc2env.viewer.page_server import PageServer, Tab


@dataclass(eq=False)
class _Watcher:
    """A tab, the number of the last clip sent to it, and whether it is ready for another."""

    tab: Tab
    sent: int = 0
    is_ready: bool = True


@dataclass(frozen=True, eq=False)
class _Clip:
    frames: np.ndarray
    info: dict[str, Any]
    reward: float
    seconds: float
    fps: float


class EpisodePage:
    """Serves the page and keeps the running episode: its latest clip, and the poses of all its clips.

    A tab gets the latest clip as soon as its last one plays. A slow tab skips clips, but still draws their path.
    Without a tab nothing is encoded.

    Args:
        place: Host, port and token of the `PageServer`.

    Attributes:
        address: URL of the page.

    Raises:
        ValueError: The host needs a token, or the port is taken.
    """

    def __init__(self, **place: Any) -> None:
        self._changed = threading.Condition()
        self._watchers: list[_Watcher] = []
        self._latest: _Clip | None = None
        self._number, self._first = 0, 0  # of the latest clip, and of the first one of its episode
        self._trail: list[np.ndarray] = []  # achieved poses of the episode's clips
        self._is_closed = False
        self._server = PageServer(self._serve, **place)
        self.address = self._server.address
        self._thread = threading.Thread(target=self._feed, name="episode page", daemon=True)
        self._thread.start()

    def show(
        self,
        frames: np.ndarray,
        info: dict[str, Any],
        *,
        fps: float,
        is_start: bool = False,
        reward: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        """Copies a clip for the page and returns at once.

        Args:
            frames: uint8 [f, h, w, 3]; at a start, the first frame alone.
            info: The `info` of `CameraCtrlWorld-v0`.
            fps: Frames a second.
            is_start: Whether a new episode begins.
            reward: Reward of this clip.
            seconds: Wall-clock time to make the clip.
        """
        with self._changed:
            self._number += 1
            if is_start:
                self._first, self._trail = self._number, []
            self._trail.append(info["achieved_c2w"])
            self._latest = _Clip(frames.copy(), info, reward, max(seconds, 1e-3), fps)
            self._changed.notify_all()

    def close(self) -> None:
        """Stops the page."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=10)
        self._server.close()

    def _serve(self, tab: Tab) -> None:
        tab.send({"type": "hello", "mode": "watch"})
        watcher = _Watcher(tab)
        with self._changed:
            self._watchers.append(watcher)
            self._changed.notify_all()
        try:
            for message in tab.messages():
                if isinstance(message, dict) and message.get("type") == "playing":
                    with self._changed:
                        watcher.is_ready = True
                        self._changed.notify_all()
        finally:
            with self._changed:
                self._watchers.remove(watcher)

    def _feed(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or any(map(self._is_due, self._watchers)))
                if self._is_closed:
                    return
                due = [(watcher, self._next_of(watcher)) for watcher in self._watchers if self._is_due(watcher)]
                clip = self._latest
            assert clip is not None
            for watcher, facts in due:
                if facts["parent"] is None:
                    watcher.tab.send({"type": "opened", "fps": clip.fps})
                watcher.tab.send(clip_message(facts, clip.frames))

    def _is_due(self, watcher: _Watcher) -> bool:
        is_new_episode = watcher.sent < self._first
        return self._latest is not None and watcher.sent < self._number and (watcher.is_ready or is_new_episode)

    def _next_of(self, watcher: _Watcher) -> dict[str, Any]:
        """The numbers of the latest clip for a tab, with the path since the last clip sent to it."""
        clip = self._latest
        assert clip is not None
        parent = watcher.sent if watcher.sent >= self._first else None
        since = self._trail[(watcher.sent if parent else self._first - 1) - self._first + 1 :]
        info = clip.info
        # a start is a still picture, which the page does not play
        watcher.sent, watcher.is_ready = self._number, parent is None
        return {
            "clip": self._number,
            "parent": parent,
            "key": "",
            "c2w": plain_poses(info["c2w"]),
            "achieved": plain_poses(np.concatenate(since)),
            "intrinsics": [float(value) for value in info["intrinsics"]],
            "goal": plain_poses(info["goal_c2w"][None]) if "goal_c2w" in info else [],
            "blocked": bool(info["blocked"]),
            "prompt": info["prompt"],
            "seconds": clip.seconds,
            "evaluations": int(info["function_evaluations"]),
            "reward": round(clip.reward, 3),
            "success": bool(info.get("is_success", False)),
            "over": False,
        }
