"""Classifier-free guidance for text and camera (Eq. 3): all branches in one forward pass, without needless ones."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.diffusion.solver import Velocity

VelocityModel = Callable[..., Tensor]
"""A conditional network with the signature of `VideoDiT.forward`."""


def guided_velocity(
    model: VelocityModel,
    text: Float[Tensor, "b n d"] | None,
    null_text: Float[Tensor, "b n d"],
    plucker: Float[Tensor, "b f c_map h w"] | None,
    w_text: float | int = 1.0,
    w_cam: float | int = 1.0,
    context_mask: Bool[Tensor, "b f"] | None = None,
    projection: Float[Tensor, "b f 4 4"] | None = None,
) -> Velocity:
    """(x, t) -> e(0,0) + w_text (e(c,0) - e(0,0)) + w_cam (e(c,s) - e(c,0)), with c the text and s the camera.

    Written per branch: (1 - w_text) e(0,0) + (w_text - w_cam) e(c,0) + w_cam e(c,s). A branch whose coefficient is
    zero is not evaluated, and without text (None, or equal to `null_text`) or camera (None) equal branches merge.

    Args:
        model: Called once per evaluation, on the branches stacked along the batch.
        text: Embedded prompts.
        null_text: Embedded empty prompts.
        plucker: Camera maps; null cameras are all zero.
        w_text: Text guidance weight; 1 is the plain conditional velocity. The paper: 7.5.
        w_cam: Camera guidance weight, likewise. The paper: 8.0.
        context_mask: True for clean context frames, passed to the model.
        projection: World to image (see `VideoDiT.forward`), for a model with camera attention; branches without camera
            get identities.

    Source: the paper, Eq. 3.
    """
    if text is not None and torch.equal(text, null_text):
        text = None
    branches = guidance_branches(text is not None, plucker is not None, w_text, w_cam)
    num = len(branches)
    texts = torch.cat([text if text is not None and has_text else null_text for _, has_text, _ in branches])
    pluckers = projections = None
    if plucker is not None and any(has_camera for *_, has_camera in branches):
        pluckers = torch.cat([plucker if has_camera else torch.zeros_like(plucker) for *_, has_camera in branches])
    if projection is not None:
        null = torch.eye(4, dtype=projection.dtype, device=projection.device).expand_as(projection)
        projections = torch.cat([projection if has_camera else null for *_, has_camera in branches])
    mask = None if context_mask is None else torch.cat([context_mask] * num)
    named = {} if projections is None else {"projection": projections}

    def guided(x: Float[Tensor, "b c f h w"], t: Float[Tensor, "b *f"]) -> Float[Tensor, "b c new h w"]:
        predictions = model(torch.cat([x] * num), torch.cat([t] * num), texts, pluckers, mask, **named).chunk(num)
        if num == 1:  # its coefficient is 1: the coefficients of Eq. 3 add up to one
            return predictions[0]
        weighted = [c * prediction for (c, *_), prediction in zip(branches, predictions, strict=True)]
        return sum(weighted[1:], weighted[0])

    return guided


def guidance_branches(
    has_text: bool, has_camera: bool, w_text: float | int, w_cam: float | int
) -> list[tuple[float | int, bool, bool]]:
    """The branches of Eq. 3 that are evaluated for each sample: coefficient, whether with text, whether with camera."""
    if has_text and has_camera:
        branches = [(1 - w_text, False, False), (w_text - w_cam, True, False), (w_cam, True, True)]
    elif has_text:
        branches = [(1 - w_text, False, False), (w_text, True, False)]
    elif has_camera:
        branches = [(1 - w_cam, False, False), (w_cam, False, True)]
    else:
        branches = [(1.0, False, False)]
    return [branch for branch in branches if branch[0] != 0]
