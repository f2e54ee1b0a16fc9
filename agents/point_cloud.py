"""A cloud of points from frames, their poses and their depth: the points on which several views agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from cc2env.geometry import ColmapPoints, Track, pixel_grid, project, unproject

_VOTES = 4  # views that must confirm a point, for each that contradicts it


@dataclass(frozen=True)
class View:
    """A frame whose camera and depth are known.

    Attributes:
        frame: The colours.
        depth: Z-depth in metres, infinite where it is not known; may have another size than the frame.
        c2w: Camera to world, metres.
        intrinsics: fx fy cx cy, divided by width and height.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    depth: Float[np.ndarray, "dh dw"]
    c2w: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "4"]


def fuse(
    views: Sequence[View], *, tolerance: float = 0.04, min_views: int = 2, cell: float = 0.05, most_depth: float = 12.0
) -> ColmapPoints:
    """Returns the points of all views that other views confirm, at most one in each cube of space.

    A view confirms a point if it sees the point's depth there, and contradicts it if it sees something behind it.
    Points on a moving thing are contradicted, or not confirmed, once the thing has moved.

    Args:
        views: At least one view.
        tolerance: Largest relative difference of depths that agree.
        min_views: Other views that must confirm a point, and four times as many as contradict it.
        cell: Edge of the cubes, metres.
        most_depth: Largest depth of a point from its camera, metres.

    Raises:
        ValueError: There is no view, or a number is out of range.
    """
    if not views or not 0 < tolerance < 1 or min_views < 0 or not cell > 0 or not most_depth > 0:
        raise ValueError("views: expected some, tolerance of 0 to 1, min_views from 0 on, positive cell and most_depth")
    points, colours, sources = _all_points(views, most_depth)
    confirmations = np.zeros((len(points), len(views)), bool)
    contradictions = np.zeros(len(points), int)
    for index, view in enumerate(views):
        confirms, contradicts = _judge(view, points, tolerance)
        confirmations[:, index] = confirms & (sources != index)
        contradictions += contradicts & (sources != index)
    votes = confirmations.sum(1)
    kept = np.flatnonzero((votes >= min_views) & (votes >= _VOTES * contradictions))
    kept = kept[np.argsort(-votes[kept], kind="stable")]  # of each cube the point that most views confirm
    _, first = np.unique(np.floor(points[kept] / cell).astype(np.int64), axis=0, return_index=True)
    kept = np.sort(kept[first])
    confirmations[kept, sources[kept]] = True
    return ColmapPoints(points[kept], colours[kept], _tracks(views, points[kept], confirmations[kept]))


def _all_points(views: Sequence[View], most_depth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [n, 3], colours [n, 3] and the view of each [n]."""
    points, colours, sources = [], [], []
    for index, view in enumerate(views):
        height, width = view.depth.shape
        seen = view.depth < most_depth
        depth = torch.from_numpy(np.where(seen, view.depth, 1).astype(np.float32))
        c2w, lens = torch.from_numpy(view.c2w), torch.from_numpy(view.intrinsics)
        points.append(unproject(pixel_grid(height, width), depth, c2w, lens).numpy()[seen])
        frame = Image.fromarray(view.frame).resize((width, height), Image.Resampling.BOX)
        colours.append(np.asarray(frame)[seen])
        sources.append(np.full(int(seen.sum()), index))
    return np.concatenate(points), np.concatenate(colours), np.concatenate(sources)


def _judge(view: View, points: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Which points a view confirms, and which it contradicts because it sees something behind them; bool [n] each."""
    height, width = view.depth.shape
    uv, depth = _project(view, points)
    inside = (depth > 0) & (uv > 0).all(1) & (uv < 1).all(1)
    column, row = (np.clip(uv * (width, height), 0, (width - 1, height - 1))).astype(int).T
    seen = np.where(inside, view.depth[row, column], 0)
    confirms = inside & (np.abs(depth - seen) < tolerance * depth)
    return confirms, inside & (seen > depth * (1 + 2 * tolerance))


def _project(view: View, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c2w, lens = torch.from_numpy(view.c2w), torch.from_numpy(view.intrinsics)
    uv, depth = project(torch.from_numpy(points), c2w, lens)
    return np.nan_to_num(uv.numpy()), depth.numpy()


def _tracks(views: Sequence[View], points: np.ndarray, seen: np.ndarray) -> list[Track]:
    tracks: list[Track] = [[] for _ in points]
    for index, view in enumerate(views):
        height, width = view.frame.shape[:2]
        uv, _ = _project(view, points)
        for number in np.flatnonzero(seen[:, index]):
            tracks[number].append((index, float(uv[number, 0] * width), float(uv[number, 1] * height)))
    return tracks
