"""A flight with branches: every clip is a node of a tree, and a key flown from any clip adds a branch."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agents.fly.settings import Settings
from cc2env.wrappers import DiscreteActions

if TYPE_CHECKING:
    from cc2env.snapshot import EnvSnapshot

ROOT = 0


@dataclass(eq=False, kw_only=True)
class Clip:
    """A node of the tree: the clip of one key.

    Attributes:
        index: Number in the session; 0 is the first frame.
        parent: The clip that it continues; None for the first frame.
        key: Name of the flown key in the session's key map; "" for the first frame.
        prompt: The text that was set with this clip, or None.
        frames: uint8 [f, h, w, 3]; one frame at index 0.
        info: Gymnasium's `info` of this step.
        reward: Reward of the session's task.
        is_over: Whether the episode ended with this clip.
        seconds: Wall-clock time to make the clip.
        was_shown: Whether the page has shown it; a clip that was not shown may be dropped.
    """

    index: int
    parent: int | None
    key: str
    prompt: str | None = None
    frames: np.ndarray
    info: dict[str, Any]
    reward: float = 0.0
    is_over: bool = False
    seconds: float = 0.0
    was_shown: bool = False
    snapshot: "EnvSnapshot | None" = field(default=None, repr=False)


class Session:
    """One episode and all its branches. Not thread-safe: one caller at a time.

    A clip is a function of the path to it, so that a session may forget old snapshots: it flies to the clip again from
    the nearest snapshot that it has kept, and gets the same bytes.

    Args:
        env: A CameraCtrlWorld without a limit of steps, with unchanged actions.
        key_map: A version in `cc2env.wrappers.KEY_MAPS`.
        most_clips: Clips that a session holds.
        most_bytes: Bytes of all their frames, which take nearly all of the memory.
        most_snapshots: Snapshots that it holds beside the first frame's and the latest.
        most_snapshot_bytes: Bytes of these, which are on the world's device.

    Attributes:
        clips: The clips by index.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        key_map: str = "v1",
        most_clips: int = 400,
        most_bytes: int = 2**28,
        most_snapshots: int = 24,
        most_snapshot_bytes: int = 2**30,
    ) -> None:
        self._env = DiscreteActions(env, key_map)
        self._most_clips, self._most_bytes = most_clips, most_bytes
        self._most_snapshots, self._most_snapshot_bytes = most_snapshots, most_snapshot_bytes
        self.key_map, self.clips = key_map, dict[int, Clip]()
        self.seed, self.options = 0, dict[str, Any]()
        self._next, self._at = 0, ROOT

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that can be flown."""
        return self._env.names

    @property
    def letters(self) -> dict[str, str]:
        """The name of each key of the keyboard."""
        return {letter: self.keys[key] for letter, key in self._env.get_keys_to_action().items()}

    @property
    def fps(self) -> float:
        """Frames a second of the film."""
        return float(self._env.get_wrapper_attr("fps"))

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> Clip:
        """Opens an episode and forgets the one before.

        Raises:
            ValueError: The seed or an option cannot be used; the old episode stays.
        """
        started = time.perf_counter()
        observation, info = self._env.reset(seed=seed, options=options)
        self.seed, self.options, self.clips, self._next, self._at = seed, options or {}, {}, 1, ROOT
        seconds = time.perf_counter() - started
        first = Clip(index=ROOT, parent=None, key="", frames=observation[:1], info=info, seconds=seconds)
        first.was_shown, first.snapshot = True, self._world.snapshot()
        self.clips[ROOT] = first
        return first

    def fly(self, parent: int, key: str, prompt: str | None = None) -> Clip:
        """Returns the clip that a key shows after another clip; an existing branch is not made again.

        Args:
            parent: The clip to go on from.
            key: A name of the key map.
            prompt: The text from this clip on; None keeps the parent's text.

        Raises:
            ValueError: There is no such clip or key, the world takes no such prompt, the episode is over, or the
                session is full.
        """
        self._check(parent)
        if key not in self.keys:
            raise ValueError(f"key: expected one of {list(self.keys)}, got {key!r:.80}; see KEY_MAPS")
        if prompt == self.clips[parent].info["prompt"]:
            prompt = None
        if (known := self._child(parent, key, prompt)) is not None:
            return known
        if self.clips[parent].is_over:
            raise ValueError("the episode is over: go back to an earlier clip, or reset")
        num_bytes = sum(clip.frames.nbytes for clip in self.clips.values())
        if len(self.clips) >= self._most_clips or num_bytes >= self._most_bytes:
            raise ValueError(f"this session is full ({len(self.clips)} clips): save it, then reset")
        self._go_to(parent)
        started = time.perf_counter()
        frames, reward, terminated, truncated, info = self._step(key, prompt)
        clip = Clip(index=self._next, parent=parent, key=key, prompt=prompt, frames=frames, info=info)
        clip.reward, clip.is_over = float(reward), terminated or truncated
        clip.seconds = time.perf_counter() - started
        clip.snapshot = self._world.snapshot()
        self.clips[clip.index], self._at, self._next = clip, clip.index, self._next + 1
        self._forget(keep=clip.index)
        return clip

    def drop(self, index: int) -> bool:
        """Removes a clip that was not shown and that no clip continues; returns whether it did."""
        clip = self.clips.get(index)
        if clip is None or clip.was_shown or any(other.parent == index for other in self.clips.values()):
            return False
        del self.clips[index]
        return True

    def path(self, index: int) -> list[Clip]:
        """Returns the clips from the first frame to this one.

        Raises:
            ValueError: There is no such clip.
        """
        self._check(index)
        way = [self.clips[index]]
        while (parent := way[-1].parent) is not None:
            way.append(self.clips[parent])
        return way[::-1]

    def depth(self, index: int) -> np.ndarray:
        """Returns the z-depth at the poses of a clip, [p, h, w]; see `CameraCtrlWorldEnv.depth`.

        Raises:
            ValueError: There is no such clip, or the world sees no depth.
        """
        self._go_to(index)
        depth: np.ndarray = self._world.depth()
        return depth

    def close(self) -> None:
        """Forgets everything and closes the environment."""
        self.clips = {}
        self._env.close()

    @property
    def _world(self) -> Any:
        return self._env.unwrapped

    def _check(self, index: object) -> None:
        if type(index) is not int or index not in self.clips:
            raise ValueError(f"clip: expected one of this session's, got {index!r:.80}; choose another")

    def _child(self, parent: int, key: str, prompt: str | None) -> Clip | None:
        wanted = (parent, key, prompt)
        return next((clip for clip in self.clips.values() if (clip.parent, clip.key, clip.prompt) == wanted), None)

    def _step(self, key: str, prompt: str | None) -> Any:
        if prompt is not None:
            self._world.set_prompt(prompt)
        self._at = -1  # unknown, if the step is interrupted
        return self._env.step(self.keys.index(key))

    def _go_to(self, index: int) -> None:
        """Brings the environment to a clip, from the nearest clip before it that has a snapshot."""
        if self._at == index:
            return
        way = self.path(index)
        start = max(place for place, clip in enumerate(way) if clip.snapshot is not None)
        self._world.restore(way[start].snapshot)
        for clip in way[start + 1 :]:
            frames, *_ = self._step(clip.key, clip.prompt)
            assert np.array_equal(frames, clip.frames), "a world must be a function of its seed and actions"
            clip.snapshot = self._world.snapshot()
        self._at = index
        self._forget(keep=index)

    def _forget(self, keep: int) -> None:
        """Drops the snapshots of the oldest clips beyond the limit; the first frame's stays."""
        held = [clip for clip in self.clips.values() if clip.snapshot is not None and clip.index not in (ROOT, keep)]
        sizes = [0 if clip.snapshot is None else clip.snapshot.num_bytes for clip in held]
        first = max(0, len(held) - self._most_snapshots)
        while first < len(held) and sum(sizes[first:]) > self._most_snapshot_bytes:
            first += 1
        for clip in held[:first]:
            clip.snapshot = None


def open_session(settings: Settings) -> Session:
    """Returns a session of a new environment, reset.

    Raises:
        ValueError: The environment or its reset refuses a setting.
        FileNotFoundError: There is no such world.
    """
    session = Session(settings.make_env())
    try:
        session.reset(settings.seed, settings.options())
    except ValueError:
        session.close()
        raise
    return session
