"""The noise of an episode as a function of (seed, step): no global state, no generator to save."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def noise_seed(seed: int, step: int) -> int:
    """The generator seed of step `step` of the episode `seed`.

    Source: ours; SplitMix64 of both, since neighbouring seeds and steps must not share noise.
    """
    mixed = _splitmix64(_splitmix64(seed) ^ step)
    # torch's CPU generator keeps the low 32 bits of its seed: fold, so that all 64 matter
    return (mixed ^ (mixed >> 32)) & 0xFFFF_FFFF


def episode_noise(seeds: Tensor, steps: Tensor, shape: Sequence[int]) -> Float[Tensor, "b ..."]:
    """Standard normal noise `[b, *shape]` on the CPU, each row drawn alone from its own generator."""
    rows = []
    for seed, step in zip(seeds.tolist(), steps.tolist(), strict=True):
        generator = torch.Generator().manual_seed(noise_seed(seed, step))
        rows.append(torch.randn(*shape, generator=generator, dtype=torch.float32))
    return torch.stack(rows)


def _splitmix64(value: int) -> int:
    value = (value + 0x9E37_79B9_7F4A_7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return value ^ (value >> 31)
