"""The pinhole camera: intrinsics, pixel centres, projection and rays. Conventions: `model.geometry`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry.se3 import relative

_UNIT = 2.0  # metres, of projection matrices


def intrinsics_from_fov(horizontal_fov: float, height: int, width: int) -> Float[Tensor, "4"]:
    """Returns (fx, fy, cx, cy), normalised, of a centred camera with square pixels; the angle is in radians.

    Raises:
        ValueError: The angle does not lie between 0 and pi.
    """
    if not 0 < horizontal_fov < math.pi:
        raise ValueError(f"horizontal_fov: expected an angle between 0 and pi radians, got {horizontal_fov}")
    fx = 0.5 / math.tan(horizontal_fov / 2)
    return torch.tensor([fx, fx * width / height, 0.5, 0.5])


def default_intrinsics() -> Float[Tensor, "4"]:
    """Returns the default camera: 75 degrees wide, 5:3, as the tiny world's 48x80 frames."""
    return intrinsics_from_fov(math.radians(75), 3, 5)


def pixel_grid(
    height: int, width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "{height} {width} 2"]:
    """Returns the normalised (u, v) of every pixel centre, ((x + 0.5) / width, (y + 0.5) / height)."""
    u = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
    v = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)


def project(
    points_world: Float[Tensor, "*#batch 3"],
    c2w: Float[Tensor, "*#batch 4 4"],
    intrinsics: Float[Tensor, "*#batch 4"],
) -> tuple[Float[Tensor, "... 2"], Float[Tensor, "..."]]:
    """Returns the normalised (u, v) of points and their z-depth in metres.

    A point behind the camera has a negative depth; its (u, v) mean nothing, nor do those of a point at depth 0.
    """
    offset = points_world - c2w[..., :3, 3]
    in_camera = (c2w[..., :3, :3].transpose(-1, -2) @ offset[..., None])[..., 0]
    depth = in_camera[..., 2]
    return in_camera[..., :2] / depth[..., None] * intrinsics[..., :2] + intrinsics[..., 2:], depth


def projection_matrix(
    c2w: Float[Tensor, "b f 4 4"], intrinsics: Float[Tensor, "b 4"], unit: float = _UNIT
) -> Float[Tensor, "b f 4 4"]:
    """Returns the world-to-image matrix K [R t] of every pose, bottom row (0, 0, 0, 1), image coordinates centred.

    The last pose is the world frame here, and lengths are in units of `unit` metres, 2 by default. The matrices are
    used only in products P_i P_j^-1, which do not depend on the world frame, and their numbers stay near one.

    Source: Li et al. 2025 (PRoPE); the choice of the world frame and the unit are ours, for accuracy in float32.
    """
    fx, fy, cx, cy = intrinsics.unbind(-1)
    k = torch.eye(4, dtype=c2w.dtype, device=c2w.device).repeat(len(c2w), 1, 1)
    k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2] = fx, fy, cx - 0.5, cy - 0.5
    w2c = relative(c2w, c2w[:, -1:])
    w2c[..., :3, 3] /= unit
    return k[:, None] @ w2c


def unproject(
    uv: Float[Tensor, "*#batch 2"],
    depth: Float[Tensor, "*#batch"],
    c2w: Float[Tensor, "*#batch 4 4"],
    intrinsics: Float[Tensor, "*#batch 4"],
) -> Float[Tensor, "... 3"]:
    """Returns the world points at normalised (u, v) and z-depth (metres along the optical axis, not the ray)."""
    in_camera = _on_unit_plane(uv, intrinsics) * depth[..., None]
    return (c2w[..., :3, :3] @ in_camera[..., None])[..., 0] + c2w[..., :3, 3]


def camera_directions(
    intrinsics: Float[Tensor, "*batch 4"], height: int, width: int
) -> Float[Tensor, "*batch {height} {width} 3"]:
    """Returns the unit ray of every pixel centre in the camera's own axes."""
    uv = pixel_grid(height, width, device=intrinsics.device, dtype=intrinsics.dtype)
    return torch.nn.functional.normalize(_on_unit_plane(uv, intrinsics[..., None, None, :]), dim=-1)


def rays(
    c2w: Float[Tensor, "*#batch 4 4"], intrinsics: Float[Tensor, "*#batch 4"], height: int, width: int
) -> tuple[Float[Tensor, "*camera {height} {width} 3"], Float[Tensor, "*camera {height} {width} 3"]]:
    """Returns the origin and the unit direction, in the world, of the ray through every pixel centre."""
    rotation = c2w[..., None, :3, :3]  # broadcasts over rows; each row of pixels is one matrix product
    directions = camera_directions(intrinsics, height, width) @ rotation.transpose(-1, -2)
    return c2w[..., None, None, :3, 3].expand_as(directions), directions


def _on_unit_plane(uv: Tensor, intrinsics: Tensor) -> Tensor:
    """Returns the points (x, y, 1) in the camera's axes that project to uv."""
    xy = (uv - intrinsics[..., 2:]) / intrinsics[..., :2]
    return torch.cat((xy, torch.ones_like(xy[..., :1])), dim=-1)
