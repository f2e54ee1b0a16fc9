"""The flights that the rules check, and how states and frames are compared."""

import hashlib
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from model.geometry import se3
from model.world.load import load_world
from model.world.protocol import LimitsItsStart, WorldModel, WorldSpec, WorldState

SEEDS = (3, 4)


class Flights:
    """A world with the flights that several rules check: two rows, and two clips along a path of small moves."""

    def __init__(self, world: WorldModel) -> None:
        self.world = world
        self.spec: WorldSpec = world.spec

    @property
    def start_arguments(self) -> frozenset[str]:
        """Which of the optional arguments of `start` the world takes."""
        everything = frozenset({"prompts", "images", "intrinsics"})
        return self.world.start_arguments if isinstance(self.world, LimitsItsStart) else everything

    @cached_property
    def started(self) -> tuple[WorldState, Tensor]:
        return self.world.start(list(SEEDS))

    @cached_property
    def first(self) -> tuple[WorldState, Tensor]:
        state = self.started[0]
        return self.world.extend(state.clone(), segment(state, self.spec))

    @cached_property
    def second(self) -> tuple[WorldState, Tensor]:
        return self.fly_on(self.first[0])

    def fly_on(self, state: WorldState, rows: tuple[int, ...] = (0, 1)) -> tuple[WorldState, Tensor]:
        """The second clip of these rows, from their state after the first."""
        return self.world.extend(state.clone(), segment(self.first[0], self.spec, seed=1)[list(rows)])


def segment(state: WorldState, spec: WorldSpec, seed: int = 0, clips: int = 1) -> Tensor:
    """Small moves from a state's poses, different in each row: `[b, clips * poses_per_clip, 4, 4]`."""
    generator = torch.Generator().manual_seed(seed)
    pose, poses = state.c2w.cpu().float(), []
    for _ in range(clips * spec.poses_per_clip):
        pose = pose @ se3.exp(0.05 * torch.randn(len(pose), 6, generator=generator))
        poses.append(pose)
    return torch.stack(poses, dim=1).to(state.c2w.device)


def film_digest(world: str | Path | WorldModel) -> str:
    """SHA-256 of the frames of `Flights`."""
    flights = Flights(load_world(world))
    frames = torch.cat([flights.started[1], flights.first[1], flights.second[1]], dim=1)
    return hashlib.sha256(frames.cpu().contiguous().numpy().tobytes()).hexdigest()


def tensors_of(state: WorldState) -> dict[str, Tensor]:
    """All tensors of a state by name, those of its memory too."""
    fields = {name: getattr(state, name) for name in ("c2w", "intrinsics", "seed", "step")}
    nested = state.memory.items(include_nested=True, leaves_only=True)
    memory = {".".join(["memory", *([name] if isinstance(name, str) else name)]): value for name, value in nested}
    return {name: value for name, value in {**fields, **memory}.items() if isinstance(value, Tensor)}


def differences(state: WorldState, other: WorldState) -> list[str]:
    """Names of entries that differ; NaN equals NaN."""
    ours, others = tensors_of(state), tensors_of(other)
    return sorted(
        name
        for name in ours.keys() | others.keys()
        if name not in ours
        or name not in others
        or not torch.allclose(ours[name].double(), others[name].double(), rtol=0, atol=0, equal_nan=True)
    )


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors share their storage."""
    return one.numel() > 0 and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def levels_apart(one: Tensor, other: Tensor) -> int:
    """The largest difference of two films, in levels of 255."""
    return int((one.int() - other.int()).abs().max())
