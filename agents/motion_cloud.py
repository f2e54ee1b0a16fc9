"""A cloud of points and the cameras from pictures alone: structure from motion, in the metres of the flown path."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8

from agents.point_cloud import View
from cc2env.estimators import ColmapSfM, Reconstruction, ReconstructionFailed
from cc2env.geometry import ColmapPoints, Track, similarity, transform


def solve_motion(views: Sequence[View], *, min_views: int = 2) -> tuple[list[View], ColmapPoints]:
    """Returns the views whose cameras COLMAP found, at the poses that it found, and its points.

    The lens is known. A picture says nothing about metres: the found path is laid over the flown one, with its scale.

    Args:
        views: Frames of one lens in order of time, at the poses that were flown; their depth is not used.
        min_views: Other views that must see a point.

    Raises:
        ValueError: COLMAP finds no path in these frames, as in small or soft ones, or is not installed.
    """
    frames = torch.from_numpy(np.stack([view.frame for view in views]))
    try:
        found = ColmapSfM(num_threads=1)(frames, None, torch.from_numpy(views[0].intrinsics))
    except ReconstructionFailed as error:
        height, width = frames.shape[1:3]
        raise ValueError(
            f"method: expected frames in which COLMAP finds the camera, got {len(views)} of {height}x{width} "
            f"({error}); fly sideways, take a world of larger frames, or method=depth"
        ) from error
    kept = found.registered.nonzero()[:, 0].tolist()
    flown = torch.from_numpy(np.stack([views[index].c2w for index in kept]))
    scale, rotation, shift = similarity(found.c2w[found.registered], flown)
    poses = transform(found.c2w[found.registered].double(), scale, rotation, shift).float().numpy()
    xyz = (scale * found.points.double() @ rotation.T + shift).float().numpy()
    placed = [replace(views[index], c2w=pose) for index, pose in zip(kept, poses, strict=True)]
    return placed, _points(found, xyz, [view.frame for view in placed], min_views)


def _points(
    found: Reconstruction,
    xyz: Float[np.ndarray, "n 3"],
    frames: Sequence[UInt8[np.ndarray, "h w 3"]],
    min_views: int,
) -> ColmapPoints:
    """The points that enough views see; each takes its colour from the first of them."""
    place_of = found.registered.cumsum(0) - 1  # of a frame among the placed views
    tracks: list[Track] = [[] for _ in xyz]
    for frame, point, (x, y) in zip(place_of[found.frame_of], found.point_of, found.pixels.tolist(), strict=True):
        tracks[int(point)].append((int(frame), x, y))
    kept = [number for number, track in enumerate(tracks) if len(track) > min_views]
    colours = [frames[view][int(y), int(x)] for view, x, y in (tracks[number][0] for number in kept)]
    rgb = np.array(colours, np.uint8).reshape(-1, 3)
    return ColmapPoints(xyz[kept], rgb, [tracks[number] for number in kept])
