"""A moment of one or more episodes: restored it continues bit for bit, indexed it forks, saved it is a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from tensordict import TensorDict
from torch import Tensor

from cc2env.session import SessionSnapshot
from model.world.protocol import WorldState
from model.world.state_io import load_state, save_state

_NOTE_BLOCK = 512  # bytes; notes of about equal length come out of equal shape, so that snapshots concatenate


@dataclass(frozen=True)
class EnvSnapshot:
    """`b` episodes at one moment. Every environment of the same world restores it, as often as one likes.

    Weights are not part of it. `snapshot[[0, 0, 2]]` holds chosen rows.

    Attributes:
        session: The rows: world state, last clip, prompts.
        random_states: Of each row's random generator, from which later resets draw.
    """

    session: SessionSnapshot
    random_states: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        """The number b of episodes."""
        return len(self.random_states)

    def __getitem__(self, rows: int | slice | Sequence[int]) -> EnvSnapshot:
        """The chosen rows, each as often as it is named; shares no memory with these."""
        if isinstance(rows, slice):
            rows = range(len(self))[rows]
        chosen = [rows] if isinstance(rows, int) else list(rows)
        return EnvSnapshot(self.session[chosen], tuple(self.random_states[row] for row in chosen))

    def fork(self, num_futures: int) -> EnvSnapshot:
        """Returns this one episode `num_futures` times, to be flown into as many futures.

        Raises:
            ValueError: There are several episodes, or num_futures is less than 1.
        """
        if len(self) != 1:
            raise ValueError(f"snapshot: expected one row to fork, got {len(self)}; choose it with snapshot[row]")
        if num_futures < 1:
            raise ValueError(f"num_futures: expected at least 1, got {num_futures}")
        return self[[0] * num_futures]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, atomically."""
        session = self.session
        memory = TensorDict({"world": session.state.memory, "episode": self._episode()}, batch_size=[len(self)])
        state = session.state
        kept = WorldState(state.c2w, state.intrinsics, state.seed, state.step, memory, batch_size=[len(self)])
        save_state(path, kept)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> EnvSnapshot:
        """Returns what `save` wrote, bit for bit, on the device of the world that goes on with it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged or holds no snapshot.
        """
        state = load_state(path, device)
        if "episode" not in state.memory:
            raise ValueError(f"path: expected a saved snapshot, got the bare world state {path}; use load_state")
        episode, memory = state.memory["episode"], state.memory["world"]
        world = WorldState(state.c2w, state.intrinsics, state.seed, state.step, memory, batch_size=state.batch_size)
        return cls._assemble(world, episode)

    def to_tensordict(self) -> TensorDict:
        """Returns all of it as tensors, batch size [b]: indexed, expanded or concatenated it is still a snapshot."""
        world = self.session.state.to_tensordict()
        return TensorDict({"world": world, "episode": self._episode()}, batch_size=[len(self)]).clone()

    @classmethod
    def from_tensordict(cls, tensordict: TensorDict) -> EnvSnapshot:
        """Returns the snapshot that `to_tensordict` took apart.

        Raises:
            ValueError: It is something else.
        """
        if not {"world", "episode"} <= set(tensordict.keys()):
            raise ValueError(f"snapshot: expected entries 'world' and 'episode', got {sorted(tensordict.keys())}")
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
                "books": session.books,
                "notes": _to_bytes([json.dumps(note, ensure_ascii=False) for note in notes]),
            },
            batch_size=[len(self)],
        ).to(session.commanded.device)

    @classmethod
    def _assemble(cls, world: WorldState, episode: TensorDict) -> EnvSnapshot:
        notes = [json.loads(text) for text in _from_bytes(episode["notes"].cpu())]
        session = SessionSnapshot(
            world,
            episode["clip_index"].cpu(),
            episode["commanded"],
            episode["frames"],
            tuple(note["prompt"] for note in notes),
            episode["books"].cpu(),
        )
        return cls(session, tuple(note["random_state"] for note in notes))


def _to_bytes(texts: Sequence[str]) -> UInt8[Tensor, "b n"]:
    encoded = [text.encode() for text in texts]
    length = -(-max(len(text) for text in encoded) // _NOTE_BLOCK) * _NOTE_BLOCK
    padded = b"".join(text.ljust(length, b"\0") for text in encoded)
    return torch.frombuffer(bytearray(padded), dtype=torch.uint8).reshape(len(encoded), length)


def _from_bytes(rows: UInt8[Tensor, "b n"]) -> list[str]:
    return [bytes(row.tolist()).rstrip(b"\0").decode() for row in rows]
