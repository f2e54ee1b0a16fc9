"""Checks of a world's arguments, whose errors name what was expected and what came, and an episode's first state."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from model.geometry import se3
from model.world.protocol import WorldSpec, WorldState

_LARGEST_SEED = 2**63 - 1


def check_seeds(seeds: Sequence[int] | Tensor) -> list[int]:
    """The seeds as Python integers.

    Raises:
        ValueError: if there is none, or one is not an integer in [0, 2**63).
    """
    if isinstance(seeds, Tensor) and (seeds.is_floating_point() or seeds.ndim != 1):
        raise ValueError(f"seeds: expected integers of shape [b], got {seeds.dtype} of shape {list(seeds.shape)}")
    values = seeds.tolist() if isinstance(seeds, Tensor) else [int(seed) for seed in seeds]
    if not values:
        raise ValueError("seeds: expected at least one, got none")
    for value in values:
        if not 0 <= value <= _LARGEST_SEED:
            raise ValueError(f"seeds: expected integers in [0, 2**63), got {value}")
    return values


def check_intrinsics(intrinsics: Tensor | None, spec: WorldSpec, batch: int) -> Tensor:
    """Intrinsics `[b, 4]` float32 from the argument or, without one, from the spec.

    Raises:
        ValueError: for a wrong shape, or focal lengths that are not positive and finite.
    """
    if intrinsics is None:
        intrinsics = torch.tensor(spec.intrinsics)
    intrinsics = intrinsics.detach().to("cpu", torch.float32)
    if tuple(intrinsics.shape) not in ((4,), (batch, 4)):
        raise ValueError(f"intrinsics: expected shape [4] or [{batch}, 4], got {list(intrinsics.shape)}")
    if not bool(torch.isfinite(intrinsics).all()) or bool((intrinsics[..., :2] <= 0).any()):
        raise ValueError(
            f"intrinsics: expected finite (fx, fy, cx, cy) with positive fx and fy, got {intrinsics.tolist()}"
        )
    return intrinsics.expand(batch, 4).clone()


def check_images(images: Tensor | None, spec: WorldSpec, batch: int) -> None:
    """Raise unless the images are uint8 `[b, height, width, 3]`.

    Raises:
        ValueError: for another dtype or shape.
    """
    expected = [batch, spec.height, spec.width, 3]
    if images is not None and (images.dtype != torch.uint8 or list(images.shape) != expected):
        raise ValueError(
            f"images: expected uint8 of shape {expected}, got {images.dtype} of shape {list(images.shape)}; "
            "resize and crop the picture first"
        )


def check_prompts(prompts: Sequence[str] | None, batch: int) -> None:
    """Raise unless there is one prompt for each seed.

    Raises:
        ValueError: for a bare string, another count, or something that is not a string.
    """
    if prompts is None:
        return
    if isinstance(prompts, str) or len(prompts) != batch or not all(isinstance(text, str) for text in prompts):
        raise ValueError(f"prompts: expected a list of {batch} strings, one per seed, got {prompts!r}")


def opening_state(
    seeds: Sequence[int], intrinsics: Tensor, memory: Mapping[str, Tensor], device: torch.device
) -> WorldState:
    """The state of episodes before their first clip: the identity pose, and what the world puts into its memory."""
    batch = len(seeds)
    return WorldState(
        c2w=torch.eye(4, dtype=torch.float32).repeat(batch, 1, 1),
        intrinsics=intrinsics,
        seed=torch.tensor(seeds),
        step=torch.zeros(batch, dtype=torch.int64),
        memory=TensorDict(dict(memory), batch_size=[batch]),
        batch_size=[batch],
    ).to(device)


def check_segment(state: WorldState, c2w: Tensor, spec: WorldSpec, *, joins: bool = False) -> Tensor:
    """The commanded poses as float32 on the state's device; with `joins`, those of several clips too.

    Raises:
        ValueError: for a wrong shape, or poses that are not finite rigid motions.
    """
    if len(state.batch_size) != 1:
        raise ValueError(
            f"state: expected batch size [b], got {list(state.batch_size)}; index with a list: state[[0]], not state[0]"
        )
    count = spec.poses_per_clip
    if joins and c2w.ndim == 4 and c2w.shape[1] and c2w.shape[1] % count == 0:
        count = c2w.shape[1]
    expected = [state.batch_size[0], count, 4, 4]
    if list(c2w.shape) != expected:
        raise ValueError(f"c2w: expected poses of shape {expected}, got {list(c2w.shape)}")
    se3.check_poses("c2w", c2w)
    return c2w.to(state.c2w.device, torch.float32)
