"""From an action to the poses it commands: checked first, then composed on SE(3)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cc2env.spaces import twist_bounds
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

_AXES = ("x (right)", "y (down)", "z (forward)", "rotation about x", "rotation about y", "rotation about z")


def check_action(action: object, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a float32 copy of an action of twists.

    Args:
        action: Anything that NumPy makes a floating-point array of; float64 is rounded.
        shape: The expected shape; the last axis holds the six components of a twist.

    Raises:
        ValueError: The shape or the type is wrong, or a component is NaN, infinite or out of bounds.
    """
    if isinstance(action, Tensor):
        action = action.detach().cpu()
    try:
        given = np.asarray(action)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"action: expected an array of shape {shape}, got {type(action).__name__}; pass a numpy array"
        ) from error
    if not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"action: expected dtype float32, got {given.dtype}; do action.astype(np.float32)")
    if given.shape != shape:
        raise ValueError(f"action: expected shape {shape}, got {given.shape}; give one twist [6] for each latent pose")
    if not np.isfinite(given).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
        raise ValueError(f"action: expected finite numbers, got {given[where]} at {where}; replace NaN and infinity")
    twists: np.ndarray = given.astype(np.float32)
    bounds = twist_bounds()
    outside = np.abs(twists) > bounds
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        limit, unit = bounds[where[-1]], "m" if where[-1] < 3 else "rad"
        raise ValueError(
            f"action: expected {_AXES[where[-1]]} between -{limit:g} and {limit:g} {unit} for each latent pose, "
            f"got {twists[where]:g} at {where}; clip it to env.action_space or spread the move over more poses"
        )
    return twists


def to_poses(c2w: Float[Tensor, "b 4 4"], twists: Float[Tensor, "b p 6"]) -> Float[Tensor, "b p 4 4"]:
    """Returns the poses that each row's twists lead to, one after another, from its current pose.

    Composed in float64, so that a clip cut in pieces gives the same poses, except for the last digit.
    """
    pose, poses = c2w.double(), []
    for motion in se3.exp(twists.double()).unbind(1):
        pose = pose @ motion
        poses.append(pose)
    return torch.stack(poses, dim=1).to(c2w.dtype)


def pieces_needed(path: CameraTrajectory, bounds: np.ndarray, size: float) -> int:
    """Returns the least number of equal pieces per segment that brings every twist of a path inside the bounds.

    Rounding is tolerated: a path flown at full speed may exceed the bounds a little, more at large coordinates.

    Args:
        path: The path, float64, from the identity.
        bounds: Bounds of a twist's components.
        size: The largest coordinate, metres, of the path that float32 rounded.
    """
    rounding = torch.full((6,), 1e-5, dtype=torch.float64)
    rounding[:3] += 4 * torch.finfo(torch.float32).eps * size
    return max(1, int(((path.twists().abs() - rounding) / torch.from_numpy(bounds)).max().ceil()))
