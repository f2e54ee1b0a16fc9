"""A learned world that looks where it flies: free space from depth estimated on the latents that it generated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.data.video_io import to_float
from model.estimators.latent_depth import LatentDepth
from model.geometry import se3
from model.geometry.camera import pixel_grid, unproject
from model.geometry.clearance import CAMERA_MARGIN, clear_share
from model.world import memory
from model.world.camera_world import CameraWorld
from model.world.protocol import WorldState

_FAR = 0.75  # of the greatest depth: what is beyond is too far off to be a surface to bump into


class SolidCameraWorld(CameraWorld):
    """A `CameraWorld` whose cameras can be told where they would have to stop: `KnowsFreeSpace`, by estimate.

    Every latent frame in the window of the state is a depth map; their points, in the world frame, are the surfaces.
    What no frame of the window shows is taken to be free. Things that move are where they were seen.

    Args:
        *networks: Those of `CameraWorld`, in order.
        depth: Reads depth off this world's latents.
        **settings: Those of `CameraWorld`.
    """

    free_space_is_exact = False

    def __init__(self, *networks: Any, depth: LatentDepth, **settings: Any) -> None:
        super().__init__(*networks, **settings)
        self._depth = depth

    def depth(self, state: WorldState) -> Float[Tensor, "b n h w"]:
        """Z-depth in metres of the latent frames in the window, oldest first; entries that are not filled are 0."""
        window = state.memory["window"]
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

    def with_seen(
        self, state: WorldState, frames: UInt8[Tensor, "b f h w 3"], c2w: Float[Tensor, "b n 4 4"]
    ) -> WorldState:
        """A copy that remembers these frames, not what it generated; `c2w` are the poses of their latent frames.

        For measuring what is seen apart from what is generated; to fly on from it would mix the two.
        """
        with torch.inference_mode():
            latents = self._vae.encode(to_float(frames.to(self._device)))
        seen = state.clone()
        seen.memory["window"] = memory.open_window(latents.clone(), c2w.to(self._device), self._context_latents)
        return seen

    def surfaces(self, state: WorldState) -> list[Float[np.ndarray, "n 3"]]:
        """Points on the surfaces that each row's window shows, world frame, metres."""
        depth = self.depth(state).cpu().double()
        c2w = state.memory["window", "c2w"].cpu().double()
        uv = pixel_grid(*depth.shape[-2:], dtype=torch.float64)
        lens = state.intrinsics.cpu().double()[:, None, None, None]
        points = unproject(uv, depth, c2w[:, :, None, None], lens)
        is_surface = (depth > 0) & (depth < _FAR * self._depth.config.max_depth)
        return [each[mask].numpy() for each, mask in zip(points, is_surface, strict=True)]

    def free_fraction(self, state: WorldState, twists: Tensor) -> Float[Tensor, "b n"]:
        """See `KnowsFreeSpace.free_fraction`: estimated; a camera keeps `CAMERA_MARGIN` metres from every point."""
        shares = torch.ones(twists.shape[:2])
        for row, (points, moves) in enumerate(zip(self.surfaces(state), twists.cpu().double(), strict=True)):
            pose = state.c2w[row].cpu().double()
            for index, move in enumerate(moves):
                near = _within(points, pose[:3, 3].numpy(), CAMERA_MARGIN + float(move[:3].norm()))
                if len(near):
                    share = clear_share(lambda where, _, near=near: _distance(where, near), pose, move)
                    shares[row, index] = share
                    move = torch.cat([share * move[:3], move[3:]])
                pose = pose @ se3.exp(move)
        return shares


def _within(points: NDArray[np.float64], centre: NDArray[np.float64], metres: float) -> NDArray[np.float64]:
    """Those of the points that a move of a camera at `centre` can come near to."""
    near: NDArray[np.float64] = points[((points - centre) ** 2).sum(axis=-1) < metres**2]
    return near


def _distance(where: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres [n] from each place [n, 3] to the nearest of the points [m, 3]."""
    squares = (where**2).sum(-1)[:, None] - 2 * where @ points.T + (points**2).sum(-1)
    nearest: NDArray[np.float64] = np.sqrt(squares.min(axis=1).clip(min=0))
    return nearest
