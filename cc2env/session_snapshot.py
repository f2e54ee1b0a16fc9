"""The state of a session's episodes at one moment, and how its rows are chosen and replaced."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from model.world.protocol import WorldState


@dataclass(frozen=True)
class SessionSnapshot:
    """The whole state of a session's rows; episodes continue from it bit for bit.

    `snapshot[[2, 0, 0]]` holds the chosen rows; a row that is named twice is forked.

    Attributes:
        state: The world's state.
        clip_index: Clips flown since the reset.
        commanded: Poses of the last clip, metres, world frame; after a reset the start pose, p times.
        frames: The last clip, on the world's device; after a reset the first frame, f times.
        prompts: The prompt in force in each row: the given one, the world's own choice, or "".
        episode_data: The poses that each camera reached, its reward and its task's state; see `cc2env.task_runner`.
    """

    state: WorldState
    clip_index: Int[Tensor, " b"]
    commanded: Float[Tensor, "b p 4 4"]
    frames: UInt8[Tensor, "b f h w 3"]
    prompts: tuple[str, ...]
    episode_data: TensorDict

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: Sequence[int]) -> "SessionSnapshot":
        """Copies of the chosen rows."""
        chosen = list(rows)
        return SessionSnapshot(
            self.state[chosen].clone(),
            self.clip_index[chosen],
            self.commanded[chosen],
            self.frames[chosen],
            tuple(self.prompts[row] for row in chosen),
            self.episode_data[chosen],
        )

    def with_rows(self, rows: Sequence[int], new: "SessionSnapshot") -> "SessionSnapshot":
        """A copy in which the rows of `new` replace the chosen ones, in order; neither input changes."""
        where, prompts = torch.as_tensor(list(rows)), list(self.prompts)
        for row, prompt in zip(rows, new.prompts, strict=True):
            prompts[row] = prompt
        on_device, episode_data = where.to(self.commanded.device), self.episode_data.clone()
        episode_data[where] = new.episode_data
        return SessionSnapshot(
            self.state.with_rows(where, new.state),
            self.clip_index.index_copy(0, where, new.clip_index),
            self.commanded.index_copy(0, on_device, new.commanded),
            self.frames.index_copy(0, on_device, new.frames),
            tuple(prompts),
            episode_data,
        )
