"""What `render` returns of a clip, in the single and in the vector environment."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
from jaxtyping import UInt8
from numpy import ndarray

RENDER_MODES = ["rgb_array", "rgb_array_list"]
# Gymnasium's (single and vector), Stable-Baselines3's, TorchRL's: each takes one frame for each step
_RECORDERS = {"RecordVideo", "VecVideoRecorder", "PixelRenderTransform"}


def check_render_mode(render_mode: str | None) -> None:
    """Raises a ValueError for a mode that there is not."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode: expected None or one of {RENDER_MODES}, got {render_mode!r}; choose one")


def rendered(clip: UInt8[ndarray, "f h w 3"], is_reset: bool, render_mode: str) -> Any:
    """Returns the last frame ("rgb_array") or the list of all ("rgb_array_list"); a reset's only frame once."""
    if render_mode == "rgb_array":
        return clip[-1].copy()
    return [frame.copy() for frame in (clip[-1:] if is_reset else clip)]


def warn_without_mode(maker: str) -> None:
    """Warns as Gymnasium's own environments do where there is nothing to render."""
    gym.logger.warn(f'render: expected a render_mode, got None; do {maker}(..., render_mode="rgb_array")')


def warn_of_recorder(num_frames: int) -> bool:
    """Warns if a recorder of another library has called, which will keep one frame of each clip; returns whether.

    Nothing tells an environment what is put round it, so the calls under way are looked through. A recorder in another
    process (Stable-Baselines3's round `SubprocVecEnv`, Gymnasium's round "async") is not found.
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
