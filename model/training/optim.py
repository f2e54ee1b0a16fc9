"""Optimisers and their learning rate: Muon for hidden matrices, AdamW for the rest, warm-up and cosine."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NOT_HIDDEN = ("embed", "patch", "head", "camera", "norm", "modulation", "table")


@dataclass(kw_only=True)
class OptimizerConfig:
    """Which optimiser, and its constants; with `muon`, Muon updates the hidden matrices, AdamW the rest.

    Source: the paper, Sec. 4.1 (learning rate, betas, weight decay); Muon is ours, because a CPU allows few steps.
    """

    muon: bool = True
    lr: float = 1e-4
    muon_lr: float | None = None  # None: `lr`, since the update has AdamW's root mean square
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.01
    muon_momentum: float = 0.95
    newton_schulz_steps: int = 5


@dataclass(kw_only=True)
class ScheduleConfig:
    """Learning rate as a share of its peak: linear warm-up, then a cosine (or a constant) to the end.

    Source: the paper, Sec. 4.1: 5e-5 to 1e-4 in 500 steps, cosine to 1e-5.
    """

    warmup_steps: int = 500
    start_share: float = 0.5
    final_share: float = 0.1
    cosine: bool = True


def learning_rate_share(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Returns the learning rate of the update after `step` others, divided by its peak: a pure function of the step."""
    if step < config.warmup_steps:
        return config.start_share + (1 - config.start_share) * step / config.warmup_steps
    if not config.cosine:
        return 1.0
    progress = min(1.0, (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps))
    return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> float:
    """Sets every group to this share of its peak, the rate that it was built with; returns the first group's rate."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        group["lr"] = group.setdefault("peak_lr", group["lr"]) * share
    return float(groups[0]["lr"])


def orthogonalize(matrices: Float[Tensor, "m rows columns"], num_steps: int = 5) -> Float[Tensor, "m rows columns"]:
    """Returns matrices near U V^T of each one's singular value decomposition (singular values in about 0.7 to 1.2).

    Source: Jordan et al. 2024, Muon: five quintic Newton-Schulz iterations, here in the matrices' own dtype.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    # Wide matrices need fewer operations with their small Gram matrix, but its rounding is too coarse in bfloat16.
    is_exact = x.dtype == torch.float64 or (
        x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    )
    is_wide = x.shape[-1] >= 2 * x.shape[-2] and is_exact
    x = _iterate_gram(x, num_steps) if is_wide else _iterate(x, num_steps)
    return x.mT if is_tall else x


def _iterate(x: Tensor, num_steps: int) -> Tensor:
    """X <- (a + b G + c G^2) X with G = X X^T."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_gram(x: Tensor, num_steps: int) -> Tensor:
    """The same result; the polynomials are multiplied first, and each step turns G into P G P."""
    a, b, c = NEWTON_SCHULZ
    gram = x @ x.mT
    product = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device).expand_as(gram)
    for step in range(num_steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if step == 0 else polynomial @ product
        if step < num_steps - 1:
            gram = polynomial @ gram @ polynomial
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum, Nesterov, then the orthogonal factor of each matrix as the update, in float32 (bfloat16 on CUDA).

    Matrices of one shape go through the iteration as one batch. The update is scaled to AdamW's usual root mean
    square, 0.2, so one learning rate serves both.

    `torch.optim.Muon` updates one matrix after the other, and always in bfloat16, which is slow on most CPUs.

    Source: Jordan et al. 2024; Liu et al. 2025 (arXiv 2502.16982) for the scale.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
        *,
        lr: float = 1e-4,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        num_steps: int = 5,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "num_steps": num_steps}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"params: expected matrices, got shape {list(parameter.shape)}; give it to AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        assert closure is None, "no closures: the loop computes gradients"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov
        matrices = torch.stack(directions)
        dtype = torch.bfloat16 if matrices.is_cuda else torch.float32
        updates = orthogonalize(matrices.to(dtype), group["num_steps"]).to(parameters[0].dtype)
        scale = 0.2 * math.sqrt(max(updates.shape[1:]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates.unbind(), alpha=-group["lr"] * scale)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes this parameter: a matrix inside a repeated block, not an embedding, norm, head or table."""
    return parameter.ndim == 2 and "blocks." in name and not any(word in name for word in _NOT_HIDDEN)


def build_optimizers(module: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Returns AdamW (weight decay on matrices and kernels only) and, with `config.muon`, Muon.

    Raises:
        ValueError: `muon_lr` is set without `muon`, `muon` without a matrix for it, or no parameter requires gradients.
    """
    if config.muon_lr is not None and not config.muon:
        raise ValueError(f"muon_lr: expected None without muon, got {config.muon_lr}; set muon=true")
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("module: expected parameters that require gradients, got none")
    matrices = [p for n, p in named if config.muon and is_hidden_matrix(n, p)]
    if config.muon and not matrices:
        raise ValueError(
            f"muon: expected hidden matrices (in `blocks`), found none in {type(module).__name__}; set muon=false"
        )
    taken = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        beta1, beta2 = config.betas
        # on a GPU one kernel for all parameters, elsewhere each operation for all parameters at once
        is_fused = all(p.is_cuda for p in rest)
        adamw = torch.optim.AdamW(groups, lr=config.lr, betas=(beta1, beta2), foreach=not is_fused, fused=is_fused)
        optimizers.append(adamw)
    if matrices:
        muon = Muon(
            matrices,
            lr=config.lr if config.muon_lr is None else config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            num_steps=config.newton_schulz_steps,
        )
        optimizers.append(muon)
    return optimizers
