"""Classifier-free guidance for text and camera (Eq. 3): all branches in one forward, superfluous ones left out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class VelocityModel(Protocol):
    """A conditional network with the signature of `VideoDiT.forward`."""

    def __call__(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        projection: Tensor | None = None,
    ) -> Tensor:
        """The velocity of `latents`."""
        ...


class GuidedVelocity:
    """The velocity (x, t) -> v under Eq. 3; made by `guided_velocity`.

    Attributes:
        evaluations_per_call: Network evaluations per sample in one call: the number of branches, 1 to 3.
    """

    def __init__(
        self,
        model: VelocityModel,
        coefficients: Sequence[float | int],
        texts: Sequence[Tensor],
        pluckers: Sequence[Tensor | None],
        context_mask: Tensor | None,
        projection: Tensor | None = None,
    ) -> None:
        self.evaluations_per_call = len(coefficients)
        self._model = model
        self._coefficients = coefficients
        self._text = torch.cat(list(texts))
        self._plucker = _concatenate_cameras(pluckers)
        self._context_mask = None if context_mask is None else torch.cat([context_mask] * len(coefficients))
        self._projection = None if projection is None else _concatenate_projections(pluckers, projection)

    def __call__(self, x: Float[Tensor, "b c f h w"], t: Float[Tensor, "b *f"]) -> Float[Tensor, "b c new h w"]:
        """The guided velocity of what the model predicts; `t` is one per sample `[b]` or per frame `[b f]`."""
        branches = self.evaluations_per_call
        if branches == 1:  # Its coefficient is 1: the coefficients of Eq. 3 add up to one.
            return self._evaluate(x, t)
        predictions = self._evaluate(torch.cat([x] * branches), torch.cat([t] * branches)).chunk(branches)
        guided = self._coefficients[0] * predictions[0]
        for coefficient, prediction in zip(self._coefficients[1:], predictions[1:], strict=True):
            guided = guided + coefficient * prediction
        return guided

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        if self._projection is None:
            return self._model(x, t, self._text, self._plucker, self._context_mask)
        return self._model(x, t, self._text, self._plucker, self._context_mask, projection=self._projection)


def guided_velocity(
    model: VelocityModel,
    text: Float[Tensor, "b n d"] | None,
    null_text: Float[Tensor, "b n d"],
    plucker: Float[Tensor, "b f 6 h w"] | None,
    w_text: float | int = 1.0,
    w_cam: float | int = 1.0,
    context_mask: Bool[Tensor, "b f"] | None = None,
    projection: Float[Tensor, "b f 4 4"] | None = None,
) -> GuidedVelocity:
    """The velocity e(0,0) + w_text (e(c,0) - e(0,0)) + w_cam (e(c,s) - e(c,0)), with c the text and s the camera.

    Written per branch: (1 - w_text) e(0,0) + (w_text - w_cam) e(c,0) + w_cam e(c,s). A branch whose coefficient is
    zero is not evaluated, and without text (None, or equal to `null_text`) or camera (None) equal branches merge.

    Args:
        model: Called once per evaluation, on the branches stacked along the batch.
        text: Embedded prompts.
        null_text: Embedded empty prompts.
        plucker: Camera maps; null cameras are all zero.
        w_text: Text guidance weight; 1 is the plain conditional velocity. The paper: 7.5.
        w_cam: Camera guidance weight, likewise. The paper: 8.0.
        context_mask: True for clean context frames, handed to the model.
        projection: The camera once more, as matrices (see `VideoDiT.forward`), for a model that wants them; branches
            without camera get identities.

    Source: the paper, Eq. 3.
    """
    if text is not None and torch.equal(text, null_text):
        text = None
    branches = guidance_branches(text is not None, plucker is not None, w_text, w_cam)
    texts = [text if text is not None and has_text else null_text for _, has_text, _ in branches]
    pluckers = [plucker if has_camera else None for _, _, has_camera in branches]
    coefficients = [coefficient for coefficient, _, _ in branches]
    return GuidedVelocity(model, coefficients, texts, pluckers, context_mask, projection)


def guidance_branches(
    has_text: bool, has_camera: bool, w_text: float | int, w_cam: float | int
) -> list[tuple[float | int, bool, bool]]:
    """The evaluations that Eq. 3 takes for each sample: coefficient, whether with the text, whether with the camera."""
    if has_text and has_camera:
        branches = [(1 - w_text, False, False), (w_text - w_cam, True, False), (w_cam, True, True)]
    elif has_text:
        branches = [(1 - w_text, False, False), (w_text, True, False)]
    elif has_camera:
        branches = [(1 - w_cam, False, False), (w_cam, False, True)]
    else:
        branches = [(1.0, False, False)]
    return [branch for branch in branches if branch[0] != 0]


def _concatenate_cameras(pluckers: Sequence[Tensor | None]) -> Tensor | None:
    """All branches' maps along the batch, zeros where there is none; None when no branch has one."""
    given = next((plucker for plucker in pluckers if plucker is not None), None)
    if given is None:
        return None
    return torch.cat([torch.zeros_like(given) if plucker is None else plucker for plucker in pluckers])


def _concatenate_projections(pluckers: Sequence[Tensor | None], projection: Tensor) -> Tensor:
    """All branches' matrices along the batch, identities where there is no camera."""
    null = torch.eye(4, dtype=projection.dtype, device=projection.device).expand_as(projection)
    return torch.cat([null if plucker is None else projection for plucker in pluckers])
