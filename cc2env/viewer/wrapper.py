"""A wrapper that shows its episodes on a page in the browser while they are flown."""

import time
import webbrowser
from typing import Any

import gymnasium as gym
import numpy as np

from cc2env.viewer.episode_page import EpisodePage


class Viewer(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """Shows every episode live: the film at its own pace, the camera's path and the task's goal.

        env = cc2env.viewer.Viewer(gym.make("CameraCtrlWorld-v0"))
        print(env.address)

    Observations, rewards and `info` stay unchanged. A step copies its clip and never waits for the page, which skips
    clips that come faster than they play.

    Args:
        env: A CameraCtrlWorld, or a wrapper that leaves observations and `info` as they are.
        page: A page that several environments share, in turn; by default the viewer makes its own.
        browser: Whether to open the page in the browser.
        place: `host`, `port` and `token` of its own page; by default this machine alone and a free port.

    Attributes:
        address: URL of the page.

    Raises:
        ValueError: The observations are no clips, the host needs a token, or the port is taken.
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, Any],
        page: EpisodePage | None = None,
        *,
        browser: bool = False,
        **place: Any,
    ) -> None:
        from cc2env.wrappers.clips import clip_space

        gym.Wrapper.__init__(self, env)
        clip_space(env)
        self._is_own = page is None
        self._page = page or EpisodePage(**place)
        self._fps = float(env.get_wrapper_attr("fps"))
        self.address = self._page.address
        if browser:
            webbrowser.open(self.address)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Resets, and shows the first frame."""
        started = time.perf_counter()
        observation, info = self.env.reset(seed=seed, options=options)
        self._page.show(observation[:1], info, fps=self._fps, is_start=True, seconds=time.perf_counter() - started)
        return observation, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Steps, and shows the clip."""
        started = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        seconds = time.perf_counter() - started
        self._page.show(observation, info, fps=self._fps, reward=float(reward), seconds=seconds)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Closes the environment, and the page if it is the viewer's own."""
        if self._is_own:
            self._page.close()
        super().close()
