"""A small DiT on a large GPU waits for Python, not for arithmetic: here its whole pass is one launch.

Each task of joint training has shapes of its own (0, 1 or n context latents), so each gets its own pair of graphs, of
the forward and of the backward pass.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from model.dit.projective import ProjectiveEncoding, projective_encoding
from model.dit.video_dit import VideoDiT
from model.training.flow_matching_step import FlowMatchingStep, LatentBatch


class GraphedStep:
    """`FlowMatchingStep` whose network calls are recorded once and replayed.

    Gradients lie in the graphs' own memory and are overwritten by the next replay, so an update is one batch.
    """

    def __init__(self, step: FlowMatchingStep) -> None:
        self._step = step
        self._graphed: _GraphedDiT | None = None

    def __call__(
        self, module: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """See `FlowMatchingStep`.

        Raises:
            ValueError: The module is not a VideoDiT on a CUDA device, with attention to cameras.
        """
        if self._graphed is None:
            self._graphed = _GraphedDiT(module)
        return self._step(self._graphed, batch, generator)


class _GraphedDiT(nn.Module):
    def __init__(self, dit: nn.Module) -> None:
        super().__init__()
        if not isinstance(dit, VideoDiT) or not next(dit.parameters()).is_cuda:
            raise ValueError(f"cuda_graphs: expected one VideoDiT on a CUDA device, got {type(dit).__name__}")
        self._calls: dict[Any, Any] = {}
        self.dit = dit

    def forward(
        self,
        latents: Float[Tensor, "b c f h w"],
        t: Float[Tensor, "b f"],
        text: Float[Tensor, "b n d"],
        *,
        plucker: Float[Tensor, "b f 6 h w"],
        context_mask: Bool[Tensor, "b f"],
        projection: Float[Tensor, "b f 4 4"],
        num_context: int,
    ) -> Float[Tensor, "b c new h w"]:
        # an inverse asks the host whether it exists, which no graph can
        projective = projective_encoding(projection, self.dit.config.head_dim)
        tensors = [x.contiguous() for x in (latents, t, text, plucker, context_mask, *projective)]
        key = (num_context, *latents.shape)
        if key not in self._calls:
            recorded = _Call(self.dit, num_context)
            samples = tuple(torch.zeros_like(x).copy_(x) for x in tensors)
            self._calls[key] = torch.cuda.make_graphed_callables(recorded, samples, allow_unused_input=True)
        velocity: Tensor = self._calls[key](*tensors)
        return velocity


class _Call(nn.Module):
    """One shape of call, with tensors for arguments only."""

    def __init__(self, dit: VideoDiT, num_context: int) -> None:
        super().__init__()
        self.dit, self._num_context = dit, num_context

    def forward(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor,
        context_mask: Tensor,
        query: Tensor,
        key_value: Tensor,
        output: Tensor,
    ) -> Tensor:
        velocity: Tensor = self.dit(
            latents,
            t,
            text,
            plucker,
            context_mask,
            projection=ProjectiveEncoding(query, key_value, output),
            num_context=self._num_context,
        )
        return velocity
