"""Saved flights: a labelled film, and the moves that repeat it and its branches bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from agents.fly.clip_facts import frames_digest
from agents.fly.session import Clip, Session
from agents.fly.settings import Settings, read_settings
from cc2env.files import write_text
from cc2env.wrappers import KEY_MAPS, RecordEpisode

_FILE, _PICTURE = "episode.json", "first_frame"
Move = tuple[int, str, str | None]
"""A clip of a flight: the number of the clip that it continues, 0 for the first frame; its key; a new prompt."""
_MOST_BYTES = 2**20  # of a saved flight's numbers


@dataclass(frozen=True, kw_only=True)
class Flight:
    """What a saved flight was flown with.

    Attributes:
        settings: Settings of its session.
        moves: The key of each clip and, where the prompt changed, the new prompt.
        sha256: Digest of all bytes of its frames.
        branches: The other clips of its session, numbered after those of the flight.
        branches_sha256: Digest of all bytes of their frames.
    """

    settings: Settings
    moves: list[tuple[str, str | None]]
    sha256: str
    branches: list[Move]
    branches_sha256: str

    @property
    def tree(self) -> list[Move]:
        """All clips: those of the flight, one after the other, then its branches."""
        return [(number, *move) for number, move in enumerate(self.moves)] + self.branches


def save_flight(folder: Path, session: Session, index: int, settings: Settings) -> Path:
    """Writes the way to a clip into a new folder `saved-<number>` and returns it.

    It holds `flight-0000` as film, poses and prompts, in the format of `RecordEpisode`, `episode.json` with the moves,
    those of all branches that were shown, and the command that repeats them, and the first frame where one was given.

    Raises:
        ValueError: There is no such clip, or nothing was flown.
        OSError: The disk is full.
    """
    way = session.path(index)
    if len(way) < 2:
        raise ValueError("save: expected a flight of at least one clip, got the first frame alone; fly first")
    target = _new_folder(folder)
    if settings.image is not None:
        (target / _PICTURE).write_bytes(Path(settings.image).read_bytes())
    recorder = RecordEpisode(_Recorded(way, session.fps), target, prefix="flight", formats=[".mp4"])
    recorder.reset()
    for _ in way[1:]:
        recorder.step(None)
    recorder.close()
    others = _branches(session, way)
    saved = {
        **settings.as_json(),
        "image": None if settings.image is None else _PICTURE,
        "key_map": session.key_map,
        "keys": [clip.key for clip in way[1:]],
        "prompts": [clip.prompt for clip in way[1:]],
        "sha256": frames_digest([clip.frames for clip in way]),
        "branches": [move for _, move in others],
        "branches_sha256": frames_digest([clip.frames for clip, _ in others]),
        "command": f"python -m agents.fly replay={target}",
    }
    write_text(target / _FILE, json.dumps(saved, indent=1))
    return target


def load_flight(folder: str | Path, worlds: Sequence[str] | None = None) -> Flight:
    """Returns a saved flight.

    Args:
        folder: What `save_flight` returned.
        worlds: Worlds that may be opened; None allows any.

    Raises:
        ValueError: The folder holds no saved flight, or one with another key map or of another world.
    """
    path = Path(folder) / _FILE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        saved = json.loads(path.read_text())
        keys, prompts, has_image = saved["keys"], saved["prompts"], saved["image"] is not None
        if saved["key_map"] != "v1" or not set(keys) <= set(KEY_MAPS["v1"]) or len(keys) != len(prompts):
            raise ValueError("its keys are not those of the key map v1")
        if not all(prompt is None or isinstance(prompt, str) for prompt in prompts):
            raise ValueError("its prompts are no texts")
        branches = [_read_move(move, len(keys) + place) for place, move in enumerate(saved.get("branches", []))]
        device = str(saved.get("device", Settings.device))  # older flights were all flown on the CPU
        settings = read_settings(saved, [saved["world"]] if worlds is None else worlds, None, device)
        sha256, branches_sha256 = str(saved["sha256"]), str(saved.get("branches_sha256", frames_digest([])))
    except (OSError, KeyError, TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"flight: expected the folder of a saved flight, got {folder} ({error})") from error
    if has_image:
        settings = replace(settings, image=str(Path(folder) / _PICTURE))
    moves = list(zip(keys, prompts, strict=True))
    return Flight(settings=settings, moves=moves, sha256=sha256, branches=branches, branches_sha256=branches_sha256)


def saved_flights(folder: Path) -> list[Path]:
    """Returns the folders of all flights that were saved in a run's folder, oldest first."""
    return sorted((path.parent for path in folder.glob(f"*/saved-*/{_FILE}")), key=lambda path: path.stat().st_mtime)


def _branches(session: Session, way: Sequence[Clip]) -> list[tuple[Clip, Move]]:
    """Returns all clips beside the way that were shown; a clip comes after the one that it continues."""
    numbers = {clip.index: number for number, clip in enumerate(way)}
    branches: list[tuple[Clip, Move]] = []
    for clip in session.clips.values():
        if clip.was_shown and clip.index not in numbers and clip.parent in numbers:
            branches.append((clip, (numbers[clip.parent], clip.key, clip.prompt)))
            numbers[clip.index] = len(numbers)
    return branches


def _read_move(move: Any, most: int) -> Move:
    """Returns a branch's clip, which continues one of the clips up to `most`.

    Raises:
        ValueError: It is no such clip.
    """
    parent, key, prompt = move
    is_text = prompt is None or isinstance(prompt, str)
    if type(parent) is not int or not 0 <= parent <= most or key not in KEY_MAPS["v1"] or not is_text:
        raise ValueError("its branches are not clips of the key map v1")
    return parent, key, prompt


def _new_folder(folder: Path) -> Path:
    for number in range(10_000):
        target = folder / f"saved-{number:04d}"
        try:
            target.mkdir(parents=True)
        except FileExistsError:
            continue
        return target
    raise ValueError(f"save: expected room in {folder}, got 10,000 saved flights; choose another out=")


class _Recorded(gym.Env[np.ndarray, Any]):
    """An environment that shows clips which were flown before."""

    def __init__(self, way: list[Clip], fps: float) -> None:
        self._way, self._place, self.fps = way, 0, fps
        self.observation_space = Box(0, 255, way[-1].frames.shape, np.uint8)

    @property
    def c2w(self) -> np.ndarray:
        pose: np.ndarray = self._way[self._place].info["achieved_c2w"][-1]
        return pose

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self._place = 0
        return self._way[0].frames, self._way[0].info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._place += 1
        clip = self._way[self._place]
        # counted along the film, whatever was flown between its clips
        return clip.frames, clip.reward, False, False, {**clip.info, "clip_index": self._place}
