"""Diffusion times of training and sampling: densities, the resolution shift, the sampling schedule."""

import torch
from jaxtyping import Float
from torch import Tensor

DENSITIES = ("logit_normal", "uniform")


def shift_timesteps(t: Float[Tensor, "*any"], shift: float | int) -> Float[Tensor, "*any"]:
    """t' = s t / (1 + (s - 1) t): more time near noise for s > 1; 0 and 1 stay. The inverse is the shift by 1 / s.

    Source: Esser et al. 2024, Eq. 23; the paper samples with shift 12.
    """
    if not shift > 0:
        raise ValueError(f"shift: expected a positive number, got {shift}; 1 leaves the times as they are")
    return shift * t / (1 + (shift - 1) * t)


def sample_timesteps(
    num: int,
    generator: torch.Generator | None = None,
    density: str = "logit_normal",
    shift: float | int = 1.0,
    mean: float | int = 0.0,
    std: float | int = 1.0,
) -> Float[Tensor, "num"]:
    """Training times in [0, 1], float32, on the generator's device.

    Args:
        num: How many.
        generator: Source of randomness; None is the global CPU generator.
        density: `logit_normal` (sigmoid of a normal: most weight on the middle) or `uniform`.
        shift: Applied afterwards, see `shift_timesteps`.
        mean: Mean of the logit (logit_normal only).
        std: Standard deviation of the logit (logit_normal only).

    Source: Esser et al. 2024, Sec. 3.1, for the logit-normal density; the paper does not name its own.
    """
    device = "cpu" if generator is None else generator.device
    match density:
        case "logit_normal":
            t = torch.sigmoid(mean + std * torch.randn(num, generator=generator, device=device))
        case "uniform":
            t = torch.rand(num, generator=generator, device=device)
        case _:
            raise ValueError(f"density: expected 'logit_normal' or 'uniform', got {density!r}; choose one of them")
    return shift_timesteps(t, shift)


def sampling_schedule(
    num_steps: int, shift: float | int = 1.0, device: torch.device | str | None = None
) -> Float[Tensor, "steps"]:
    """The `num_steps + 1` times between which a solver steps, from exactly 1 (noise) down to exactly 0 (data).

    Source: the paper, Sec. 3.1: Euler, 32 steps, shift 12.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}; a solver needs a step to take")
    # In float64, so that the ends are exact and every shift rounds once.
    return shift_timesteps(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift).float().to(device)
