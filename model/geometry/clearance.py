"""How far a solid camera can go along a move, given a function that returns the distance to the nearest surface."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from model.geometry import se3

CAMERA_MARGIN = 0.35  # metres that a solid camera's centre keeps from every surface

_SAMPLES = 16  # instants of a move that are checked: with the margin on both sides no surface is too thin to be found
_ROUNDS = 3  # each is 16 times finer: in the end 0.15 mm of a move of 0.6 m
_SLACK = 1e-3  # metres beyond the margin at which a move ends, so that rounding does not block the next one

Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def free_fraction(
    nearest: Distance, c2w: Float[Tensor, "4 4"], twist: Float[Tensor, "6"], margin: float = CAMERA_MARGIN
) -> float:
    """Largest share in [0, 1] of a twist's translation that keeps a camera's centre `margin` metres from all surfaces.

    The rotation is always made in full: the move is `exp((share * v, w))`. A point is also clear if the start is no
    farther from the surfaces at that time: an object that comes nearer by itself, or a move away, blocks nothing.

    Args:
        nearest: From points [n, 3] and the completed parts [n] of the move, in [0, 1], to metres [n].
        c2w: Where the move starts, in the frame of the points.
        twist: (v, w), metres and radians.
        margin: Metres.
    """
    pose, move = c2w.detach().cpu().double(), twist.detach().cpu().double()
    origin = pose[:3, 3].numpy()
    tau = torch.arange(1, _SAMPLES + 1, dtype=torch.float64) / _SAMPLES
    path = (se3.exp(tau[:, None] * move)[:, :3, 3] @ pose[:3, :3].T).numpy()
    parts = tau.numpy()
    standing = nearest(np.broadcast_to(origin, path.shape), parts)

    def is_clear(shares: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
        points = (origin + shares[:, None, None] * path).reshape(-1, 3)
        metres = nearest(points, np.tile(parts, len(shares))).reshape(len(shares), -1)
        return np.asarray(((metres > margin) | (metres >= standing)).all(axis=1))

    if is_clear(np.ones(1), margin)[0]:
        return 1.0
    free, width = 0.0, 1.0  # a share of 0, standing still, is always clear
    for _ in range(_ROUNDS):
        shares = free + np.linspace(0, width, _SAMPLES, endpoint=False)
        free, width = float(shares[is_clear(shares, margin + _SLACK)][-1]), width / _SAMPLES
    return free
