"""A learned world that knows its free space: depth is estimated from the latents that it generated."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from model.data.video_io import to_float
from model.geometry import se3
from model.geometry.camera import pixel_grid, unproject
from model.geometry.clearance import CAMERA_MARGIN, free_fraction
from model.vae.latent_depth import LatentDepth
from model.world import memory
from model.world.camera_world import CameraWorld
from model.world.protocol import WorldState

_LATENTS = 16  # this many of the latest remembered latent frames are used
_FAR = 0.75  # share of the greatest depth; points beyond it are too far away to be obstacles
_EDGE = 1.5  # if depth differs by this factor among a cell's neighbours, an edge crosses the cell: no surface
_LOWEST, _FLAT = 0.2, 0.25  # ground: the lowest share of the points, if half lie this near to their median, metres


class SolidCameraWorld(CameraWorld):
    """A `CameraWorld` that estimates where a solid camera would have to stop: `KnowsFreeSpace`.

    Each of the latest latent frames in the state gives a depth map; its points, in the world frame, are the surfaces.
    Space that no frame shows counts as free, except for the ground: if many of the lowest points are level, the ground
    continues at that level (the first camera is level, so y is down). Moving things stay where they were seen.

    Args:
        *networks: Those of `CameraWorld`, in order.
        depth: Estimates depth from this world's latents.
        **settings: Those of `CameraWorld`.
    """

    free_space_is_exact = False

    def __init__(self, *networks: Any, depth: LatentDepth, **settings: Any) -> None:
        super().__init__(*networks, **settings)
        self._depth = depth
        self._num_seen = min(self._capacity, _LATENTS)

    def depth(self, state: WorldState) -> Float[Tensor, "b n h w"]:
        """Z-depth in metres of the latest latent frames, oldest first; entries that are not filled are 0."""
        window = memory.latest(state.memory["window"], self._num_seen)
        latents, c2w = window["latents"].transpose(1, 2).float(), window["c2w"]
        batch, capacity = latents.shape[:2]
        age = torch.arange(capacity, device=latents.device) - (capacity - window["count"][:, None])
        before = torch.arange(-1, capacity - 1).clamp(min=0)
        with torch.inference_mode():
            depth = self._depth(
                torch.stack([latents[:, before], latents], dim=2).flatten(0, 1),
                torch.stack([c2w[:, before], c2w], dim=2).flatten(0, 1),
                state.intrinsics.repeat_interleave(capacity, dim=0),
                (age > 0).float().flatten(),
            ).unflatten(0, (batch, capacity))
        return (depth * (age >= 0)[..., None, None]).clone()

    def clip_depth(self, state: WorldState, c2w: Float[Tensor, "b n 4 4"]) -> Float[Tensor, "b n h w"]:
        """See `SeesDepth.clip_depth`: estimated from the latents; infinite far away, where it is hardly known.

        Raises:
            ValueError: There are more poses than latent frames in use.
        """
        count = c2w.shape[1]
        if count > self._num_seen:
            raise ValueError(f"c2w: expected at most {self._num_seen} poses, got {count}; ask for fewer")
        depth = self.depth(state)[:, -count:]
        return torch.where((depth > 0) & (depth < _FAR * self._depth.config.max_depth), depth, torch.inf)

    def with_seen(
        self, state: WorldState, frames: UInt8[Tensor, "b f h w 3"], c2w: Float[Tensor, "b n 4 4"]
    ) -> WorldState:
        """A copy that remembers these frames, not the generated ones; `c2w` are the poses of their latent frames.

        For measurements on given frames only: `extend` from it would mix them with generated ones.
        """
        with torch.inference_mode():
            latents = self._vae.encode(to_float(frames.to(self._device)))
        seen = state.clone()
        seen.memory["window"] = memory.open_window(latents.clone(), c2w.to(self._device), self._capacity)
        return seen

    def surfaces(self, state: WorldState) -> list[Float[np.ndarray, "n 3"]]:
        """Points on the surfaces that each row's latest latents show, in the world frame, metres."""
        depth = self.depth(state).cpu()
        c2w = state.memory["window", "c2w"][:, -self._num_seen :].cpu()
        lens = state.intrinsics.cpu()[:, None, None, None]
        points = unproject(pixel_grid(*depth.shape[-2:]), depth, c2w[:, :, None, None], lens)
        is_surface = (depth > 0) & (depth < _FAR * self._depth.config.max_depth) & ~_on_edge(depth)
        return [each[mask].double().numpy() for each, mask in zip(points, is_surface, strict=True)]

    def free_fraction(self, state: WorldState, twists: Tensor) -> Float[Tensor, "b n"]:
        """See `KnowsFreeSpace.free_fraction`: estimated; a camera keeps `CAMERA_MARGIN` metres from what is seen."""
        shares = torch.ones(twists.shape[:2])
        for row, (points, moves) in enumerate(zip(self.surfaces(state), twists.cpu().double(), strict=True)):
            pose, ground = state.c2w[row].cpu().double(), ground_level(points)
            for index, move in enumerate(moves):
                reach = CAMERA_MARGIN + float(move[:3].norm())
                near = _within(points, pose[:3, 3].numpy(), reach)
                if len(near) or ground - pose[1, 3] < reach:
                    share = free_fraction(partial(_distance, points=near, ground=ground), pose, move)
                    shares[row, index] = share
                    move = torch.cat([share * move[:3], move[3:]])
                pose = pose @ se3.exp(move)
        return shares


def ground_level(points: Float[np.ndarray, "n 3"]) -> float:
    """The height y (down, metres) of the ground under the points; infinite where the lowest of them are not level."""
    heights = np.sort(points[:, 1])[len(points) - int(_LOWEST * len(points)) :]
    if not len(heights):
        return math.inf
    level = float(np.median(heights))
    return level if np.mean(np.abs(heights - level) < _FLAT) > 0.5 else math.inf


def _on_edge(depth: Float[Tensor, "b n h w"]) -> Bool[Tensor, "b n h w"]:
    """Cells in whose neighbourhood (themselves included) depth differs much: there is no surface in between."""
    farthest, nearest = max_pool2d(depth, 3, 1, 1), -max_pool2d(-depth, 3, 1, 1)
    return farthest > _EDGE * nearest


def _within(points: NDArray[np.float64], centre: NDArray[np.float64], metres: float) -> NDArray[np.float64]:
    """The points within `metres` of the camera's centre: only these can block its move."""
    near: NDArray[np.float64] = points[((points - centre) ** 2).sum(axis=-1) < metres**2]
    return near


def _distance(
    where: NDArray[np.float64], parts: NDArray[np.float64], points: NDArray[np.float64], ground: float
) -> NDArray[np.float64]:
    """Metres [n] from each place [n, 3] to the ground or the nearest of the points [m, 3], for all parts of a move."""
    to_ground = ground - where[:, 1]
    if not len(points):
        return to_ground
    squares = (where**2).sum(-1)[:, None] - 2 * where @ points.T + (points**2).sum(-1)
    nearest: NDArray[np.float64] = np.minimum(np.sqrt(squares.min(axis=1).clip(min=0)), to_ground)
    return nearest
