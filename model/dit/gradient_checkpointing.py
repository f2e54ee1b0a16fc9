"""Gradient checkpointing: the backward pass recomputes blocks, wholly or except for attention, to save memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

GRADIENT_CHECKPOINTING = ("none", "selective", "full")
"""What each keeps of a block: everything; its input and the result of attention; its input."""

_ATTENTION = {
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
}


def check_gradient_checkpointing(kind: str) -> None:
    """Raises ValueError for an unknown kind."""
    if kind not in GRADIENT_CHECKPOINTING:
        raise ValueError(f"gradient_checkpointing: expected one of {list(GRADIENT_CHECKPOINTING)}, got {kind!r}")


def checkpointed(kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`; only what `kind` says is kept for the backward pass.

    Attention costs most in long windows, and its result is small: n x d numbers for n^2 x d products.
    """
    if kind == "none" or not torch.is_grad_enabled():
        return function(*arguments)
    if kind == "full":
        return checkpoint(function, *arguments, use_reentrant=False)
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=_keep_attention)


def _keep_attention() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE
