"""Plucker maps: how the network sees the camera (the paper, Sec. 3.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry.camera import camera_directions


def plucker_map(
    c2w: Float[Tensor, "b f 4 4"], intrinsics: Float[Tensor, "b f 4"] | Float[Tensor, "b 4"], height: int, width: int
) -> Float[Tensor, "b f 6 {height} {width}"]:
    """Returns (o x d, d) of every pixel centre: o the camera's centre in metres, d the ray's unit direction.

    The poses' own world is the reference, so a segment split in two gives the same maps.

    Source: the paper, Sec. 3.1 (it prints "+ t" in d; a direction takes no translation, as in the authors' code).
    """
    if intrinsics.ndim == 2:  # one camera for the whole clip: its directions are computed once
        intrinsics = intrinsics[:, None]
    directions = camera_directions(intrinsics, height, width).flatten(-3, -2).transpose(-1, -2)
    rotation, origin = c2w[..., :3, :3], c2w[..., :3, 3:]
    # o x (R d) = ([o]x R) d: one 6x3 matrix per pose makes the whole map in a single product.
    moment = torch.linalg.cross(origin.expand_as(rotation), rotation, dim=-2)
    return (torch.cat((moment, rotation), dim=-2) @ directions).unflatten(-1, (height, width))
