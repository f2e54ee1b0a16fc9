"""What `render` returns of a clip, in the single and in the vector environment."""

import sys
from typing import Any

import gymnasium as gym

from cc2env.episodes import Episodes

RENDER_MODES = ["rgb_array", "rgb_array_list"]
# Gymnasium's (single and vector), Stable-Baselines3's, TorchRL's: each takes one frame for each step
_RECORDERS = {"RecordVideo", "VecVideoRecorder", "PixelRenderTransform"}


def check_render_mode(render_mode: str | None) -> None:
    """Raises a ValueError for an unknown mode."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode: expected None or one of {RENDER_MODES}, got {render_mode!r}; choose one")


class Renderer:
    """Renders episodes, and warns once about a recorder that keeps one frame of each clip.

    Args:
        episodes: The episodes to render.
        maker: Gymnasium's function that makes the environment, for the warning about a missing render mode.
    """

    def __init__(self, episodes: Episodes, maker: str) -> None:
        self._episodes, self._maker, self._has_warned = episodes, maker, False

    def render(self, render_mode: str | None) -> list[Any]:
        """Returns for each row the last frame ("rgb_array") or the list of all frames ("rgb_array_list"), one frame
        after a reset. Without a mode it warns, as Gymnasium's own environments do, and returns nothing.

        Raises:
            ResetNeeded: There is no episode.
        """
        if render_mode is None:
            gym.logger.warn(f'render: expected a render_mode, got None; do {self._maker}(..., render_mode="rgb_array")')
            return []
        self._episodes.require_reset("render")
        session, clips = self._episodes.session, self._episodes.observations()
        self._has_warned = self._has_warned or _warn_of_recorder(session.frames_per_clip)
        if render_mode == "rgb_array":
            return list(clips[:, -1])
        is_reset = (session.current.clip_index == 0).tolist()
        return [list(clip[-1:] if reset else clip) for clip, reset in zip(clips, is_reset, strict=True)]


def _warn_of_recorder(num_frames: int) -> bool:
    """Warns if the caller is a recorder that keeps one frame of each clip; returns whether it warned.

    An environment does not know its wrappers, so the call stack is searched. A recorder in another process
    (Stable-Baselines3's round `SubprocVecEnv`, Gymnasium's round "async") is not found.
    """
    caller = sys._getframe(1)
    while caller is not None and type(caller.f_locals.get("self")).__name__ not in _RECORDERS:
        caller = caller.f_back  # type: ignore[assignment]
    if caller is None:
        return False
    gym.logger.warn(
        f"render: {type(caller.f_locals['self']).__name__} keeps 1 of the {num_frames} frames of each clip; "
        "cc2env.wrappers.RecordEpisode(env, folder) keeps all of them, and their poses"
    )
    return True
