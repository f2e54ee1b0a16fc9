"""What a session knows of its episodes at one moment, and how rows of it are chosen and replaced."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from model.world.protocol import WorldState


@dataclass(frozen=True)
class SessionSnapshot:
    """Everything a session knows of its rows; what continues from it is the same bit for bit.

    `snapshot[[2, 0, 0]]` holds the chosen rows, each as often as it is named: that is a fork.

    Attributes:
        state: The world's.
        clip_index: Clips flown since the reset.
        commanded: Poses of the last clip, metres, world frame; after a reset the start pose, p times.
        frames: The last clip, on the world's device; after a reset the first frame, f times.
        prompts: The prompt in force in each row: the given one, the world's own choice, or "".
        episode_data: Where each camera got, what it earned and how its task stands; see `cc2env.task_runner`.
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
        """The chosen rows, sharing no memory with these."""
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
        """These rows, but for those of `new` in the place of the chosen ones, in order; neither input changes."""
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
