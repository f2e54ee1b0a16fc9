"""Snapshots of episodes: restore one to continue bit for bit, index it to fork, save it as one file."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import UInt8
from tensordict import TensorDict
from torch import Tensor

from cc2env.session_snapshot import SessionSnapshot
from model.geometry import se3
from model.world.protocol import WorldState
from model.world.state_io import check_entry, check_state, load_state, save_state

_BIT_GENERATORS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}
_NOTE_BLOCK = 512  # bytes; notes are padded to a multiple of it, so that most snapshots can be concatenated


@dataclass(frozen=True)
class EnvSnapshot:
    """`b` episodes at one moment. Every environment of the same world can restore it, any number of times.

    Weights are not part of it. `snapshot[[0, 0, 2]]` holds chosen rows.

    Attributes:
        session: The rows: world state, last clip, prompts.
        random_states: State of each row's random generator, from which later resets draw; see `random_state`.

    Raises:
        ValueError: There is not one random state for each row.
    """

    session: SessionSnapshot
    random_states: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        if len(self.random_states) != len(self.session):
            raise ValueError(
                f"random_states: expected one for each of {len(self.session)} row(s), got {len(self.random_states)}"
            )

    def __len__(self) -> int:
        return len(self.random_states)

    @property
    def num_bytes(self) -> int:
        """Bytes of the world's state and of the last clip, on the world's device."""
        tensors = [*self.session.state.values(include_nested=True, leaves_only=True), self.session.frames]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def __getitem__(self, rows: SupportsIndex | slice | Sequence[int] | np.ndarray) -> "EnvSnapshot":
        """Copies of the rows that an index, slice, list (also with repeats) or mask chooses."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows if rows.size else rows.astype(int)  # NumPy takes an empty list for floats
        chosen = np.atleast_1d(np.arange(len(self))[rows]).tolist()
        return EnvSnapshot(self.session[chosen], tuple(self.random_states[row] for row in chosen))

    def fork(self, num_futures: SupportsIndex) -> "EnvSnapshot":
        """Returns `num_futures` copies of this one episode, to fly different futures.

        Raises:
            ValueError: There is not one episode, or num_futures is less than 1.
        """
        if len(self) != 1:
            raise ValueError(f"snapshot: expected one row to fork, got {len(self)}; choose it with snapshot[row]")
        return self[[0] * positive_integer("num_futures", num_futures)]

    def generators(self) -> list[np.random.Generator]:
        """Returns a new random generator in the state of each row's.

        Raises:
            ValueError: A state is not that of one of NumPy's generators.
        """
        return [_generator(state) for state in self.random_states]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, atomically."""
        session = self.session
        memory = TensorDict({"world": session.state.memory, "episode": self._episode()}, batch_size=[len(self)])
        state = session.state
        kept = WorldState(state.c2w, state.intrinsics, state.seed, state.step, memory, batch_size=[len(self)])
        save_state(path, kept)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "EnvSnapshot":
        """Returns what `save` wrote, bit for bit; `device` is that of the world that will restore it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds no snapshot.
        """
        state = load_state(path, device)
        if "episode" not in state.memory:
            raise ValueError(f"path: expected a saved snapshot, got the bare world state {path}; use load_state")
        # an empty memory is not kept in a file
        empty = TensorDict({}, batch_size=state.batch_size)
        memory = state.memory.get("world", empty)
        world = WorldState(state.c2w, state.intrinsics, state.seed, state.step, memory, batch_size=state.batch_size)
        try:
            return cls._assemble(world, state.memory["episode"])
        except ValueError as error:
            raise ValueError(f"path: expected a saved snapshot, {path} is damaged or holds none ({error})") from error

    def to_tensordict(self) -> TensorDict:
        """Returns the snapshot as tensors, batch size [b]; it may be indexed, expanded or concatenated."""
        world = self.session.state.to_tensordict()
        return TensorDict({"world": world, "episode": self._episode()}, batch_size=[len(self)]).clone()

    @classmethod
    def from_tensordict(cls, tensordict: TensorDict) -> "EnvSnapshot":
        """Returns the snapshot that `to_tensordict` converted.

        Raises:
            ValueError: The tensordict is something else, or was made invalid.
        """
        if not {"world", "episode"} <= set(tensordict.keys()):
            raise ValueError(f"snapshot: expected entries 'world' and 'episode', got {sorted(tensordict.keys())}")
        if missing := {"c2w", "intrinsics", "seed", "step", "memory"} - set(tensordict["world"].keys()):
            raise ValueError(f"snapshot: expected the state of a world, got one without {sorted(missing)}")
        world = WorldState.from_tensordict(tensordict["world"].clone())
        return cls._assemble(world, tensordict["episode"].clone())

    def _episode(self) -> TensorDict:
        session = self.session
        notes = [
            {"prompt": prompt, "random_state": state}
            for prompt, state in zip(session.prompts, self.random_states, strict=True)
        ]
        return TensorDict(
            {
                # on the world's device like the rest; clips are counted on the CPU
                "clip_index": session.clip_index.to(session.commanded.device),
                "commanded": session.commanded,
                "frames": session.frames,
                "episode_data": session.episode_data,
                "notes": _to_bytes([json.dumps(note, ensure_ascii=False) for note in notes]),
            },
            batch_size=[len(self)],
        ).to(session.commanded.device)

    @classmethod
    def _assemble(cls, world: WorldState, episode: TensorDict) -> "EnvSnapshot":
        try:
            check_state(world)
            _check_episode(episode, len(world.seed))
            notes = [_note(text) for text in _from_bytes(episode["notes"].cpu())]
        except (ValueError, RecursionError) as error:  # RecursionError: JSON nested too deeply
            raise ValueError(
                f"snapshot: expected what an environment's snapshot() gave, got another ({error})"
            ) from error
        session = SessionSnapshot(
            world,
            episode["clip_index"].cpu(),
            episode["commanded"],
            episode["frames"],
            tuple(note["prompt"] for note in notes),
            episode["episode_data"].cpu(),
        )
        return cls(session, tuple(note["random_state"] for note in notes))


def random_state(generator: np.random.Generator) -> dict[str, Any]:
    """Returns the state of a random generator of any kind in a form that JSON can hold."""
    state: dict[str, Any] = json.loads(json.dumps(generator.bit_generator.state, default=np.ndarray.tolist))
    return state


def positive_integer(name: str, value: object, expected: str = "an integer of at least 1") -> int:
    """Returns an integer of Python or NumPy as Python's.

    Raises:
        ValueError: It is no integer, or less than 1.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return number


def _generator(state: Any) -> np.random.Generator:
    try:
        generator = np.random.Generator(_BIT_GENERATORS[state["bit_generator"]](0))
        generator.bit_generator.state = state
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"snapshot: expected the state of a random generator, one of {sorted(_BIT_GENERATORS)}, "
            f"got {state!s:.80}; take the snapshot again"
        ) from error
    return generator


def _note(text: str) -> dict[str, Any]:
    note = json.loads(text)
    if not isinstance(note, dict) or not isinstance(note.get("prompt"), str):
        raise ValueError(f"notes: expected a prompt and a random state, got {text:.80}")
    _generator(note.get("random_state"))
    return note


def _check_episode(episode: Any, count: int) -> None:
    if not isinstance(episode, TensorDict) or not isinstance(episode.get("episode_data", None), TensorDict):
        raise ValueError("episode: expected entries, 'episode_data' among them, got none")
    for name, shape, dtype in (
        ("clip_index", (count,), torch.int64),
        ("commanded", (count, -1, 4, 4), torch.float32),
        ("frames", (count, -1, -1, -1, 3), torch.uint8),
        ("notes", (count, -1), torch.uint8),
    ):
        check_entry(name, episode.get(name, None), shape, dtype)
    check_entry("achieved", episode["episode_data"].get("achieved", None), (count, -1, 4, 4), torch.float32)
    se3.check_poses("commanded", episode["commanded"])
    se3.check_poses("achieved", episode["episode_data"]["achieved"])
    if bool((episode["clip_index"] < 0).any()):
        raise ValueError(f"clip_index: expected integers of at least 0, got {episode['clip_index'].tolist()}")


def _to_bytes(texts: Sequence[str]) -> UInt8[Tensor, "b n"]:
    encoded = [text.encode() for text in texts]
    length = -(-max(len(text) for text in encoded) // _NOTE_BLOCK) * _NOTE_BLOCK
    padded = b"".join(text.ljust(length, b"\0") for text in encoded)
    return torch.frombuffer(bytearray(padded), dtype=torch.uint8).reshape(len(encoded), length)


def _from_bytes(rows: UInt8[Tensor, "b n"]) -> list[str]:
    return [bytes(row.tolist()).rstrip(b"\0").decode() for row in rows]
