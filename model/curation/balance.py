"""Balance of camera paths: keypoints, segments, directions, turns, importance, categories, pruning (Sec. 3.2)."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from model.geometry import se3

DIRECTIONS = ("right", "left", "down", "up", "forward", "back")  # the camera's +x -x +y -y +z -z
PRIMARY_DIRECTIONS = ("still", *DIRECTIONS)  # N = 7
MAIN_TURNS = ("none", *DIRECTIONS, "reverse")  # M = 8

Category = tuple[str, str]  # one of PRIMARY_DIRECTIONS, one of MAIN_TURNS


@dataclass(kw_only=True)
class BalanceConfig:
    """Thresholds of the description; distances in metres, angles in degrees.

    Attributes:
        window: n: a line is fitted to this many points before and after a point.
        keypoint_angle: gamma: a larger angle between the two lines makes a keypoint.
        view_change: A larger turn of the camera along a segment counts as a view change.
        still_below: A path no longer than this stands still; so does a step of less than 1 % of the path.
        reverse_above: A larger turn is a reversal, to either side.
    """

    window: int = 4
    keypoint_angle: float = 25.0
    view_change: float = 15.0
    still_below: float = 0.1
    reverse_above: float = 150.0


@dataclass(frozen=True)
class Segment:
    """Poses `first` to `last` between keypoints: direction of the fitted line, length (m), view change (deg)."""

    first: int
    last: int
    direction: Float[Tensor, "3"]
    length: float
    view_change: float


@dataclass(frozen=True)
class PathDescription:
    """The description of a path.

    Attributes:
        segments: In order; one for a path without keypoints, none for one that stands still.
        turns: Angles in degrees between successive segments.
        category: Primary direction and main turn.
        importance: Number of view changes and turns, plus the sum of their angles over 90 degrees.
    """

    segments: tuple[Segment, ...]
    turns: tuple[float, ...]
    category: Category
    importance: float


def describe(c2w: Float[Tensor, "f 4 4"], config: BalanceConfig | None = None) -> PathDescription:
    """Returns the segments, turns, category and importance of a metric path.

    Source: the paper, Sec. 3.2; ours: directions are in the axes of the camera at the segment's start, since "forward"
    means what the viewer sees; a path that stands still has the direction "still", and its rotation is one view change.
    """
    config = config or BalanceConfig()
    poses = c2w.double()
    moving = _moving(poses[:, :3, 3], config)
    if len(moving) < 2:
        return PathDescription((), (), ("still", "none"), _importance([_view_change(poses)], (), config))
    marks = [0, *keypoints(poses[moving, :3, 3], config), len(moving) - 1]
    segments = tuple(_segment(poses, moving[a : b + 1]) for a, b in pairwise(marks))
    turns = tuple(_angle(a.direction, b.direction) for a, b in pairwise(segments))
    main = max(range(len(segments)), key=lambda k: segments[k].length)
    axes = poses[segments[main].first, :3, :3].T
    primary = _name(axes @ segments[main].direction)
    category = (primary, _main_turn(poses, segments, turns, main, config))
    importance = _importance([segment.view_change for segment in segments], turns, config)
    return PathDescription(segments, turns, category, importance)


def keypoints(points: Float[Tensor, "f 3"], config: BalanceConfig | None = None) -> list[int]:
    """Returns the indices where the lines fitted to the n points before and after differ by more than gamma.

    Keypoints are at least n points apart, the sharpest first, so that one corner gives one keypoint.
    """
    config = config or BalanceConfig()
    n = config.window
    angles = {
        k: _angle(_line(points[max(k - n, 0) : k + 1]), _line(points[k : k + n + 1])) for k in range(2, len(points) - 2)
    }
    chosen: list[int] = []
    for k in sorted(angles, key=lambda k: (-angles[k], k)):
        if angles[k] > config.keypoint_angle and all(abs(k - other) >= n for other in chosen):
            chosen.append(k)
    return sorted(chosen)


def prune(paths: Mapping[str, PathDescription], cap: int) -> tuple[list[str], list[str]]:
    """Returns the ids kept and removed: of every category the `cap` most important, ties by id.

    Raises:
        ValueError: the cap is less than 1.
    """
    if cap < 1:
        raise ValueError(f"cap: expected at least 1 path per category, got {cap}")
    taken: Counter[Category] = Counter()
    kept = set()
    for name in sorted(paths, key=lambda name: (-paths[name].importance, name)):
        if taken[paths[name].category] < cap:
            taken[paths[name].category] += 1
            kept.add(name)
    return [name for name in paths if name in kept], [name for name in paths if name not in kept]


def plot_balance(path: str | Path, before: Mapping[str, PathDescription], kept: list[str]) -> None:
    """Draws the number of paths in every category, before and after pruning."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, names, title in zip(axes, (list(before), kept), ("before", "after"), strict=True):
        counts = Counter(before[name].category for name in names)
        table = [[counts[(primary, turn)] for turn in MAIN_TURNS] for primary in PRIMARY_DIRECTIONS]
        axis.imshow(table, cmap="Blues", aspect="auto")
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                if value:
                    dark = value > 0.6 * max(map(max, table))
                    axis.text(column, row, str(value), ha="center", va="center", color="white" if dark else "black")
        axis.set_xticks(range(len(MAIN_TURNS)), MAIN_TURNS, rotation=45)
        axis.set_yticks(range(len(PRIMARY_DIRECTIONS)), PRIMARY_DIRECTIONS)
        axis.set_xlabel("main turn")
        axis.set_title(f"{title}: {len(names)} paths")
    axes[0].set_ylabel("primary direction")
    figure.savefig(path, dpi=120)


def _moving(centres: Tensor, config: BalanceConfig) -> list[int]:
    """Indices of poses that moved away from the last kept one: where a camera waits, lines would miss a corner."""
    length = float(centres.diff(dim=0).norm(dim=-1).sum())
    if length <= config.still_below:
        return []
    indices = [0]
    for k in range(1, len(centres)):
        if float((centres[k] - centres[indices[-1]]).norm()) > 0.01 * length:
            indices.append(k)
    return indices


def _segment(poses: Tensor, indices: list[int]) -> Segment:
    centres = poses[indices, :3, 3]
    first, last = indices[0], indices[-1]
    length = float(centres.diff(dim=0).norm(dim=-1).sum())
    return Segment(first, last, _line(centres), length, _view_change(poses[first : last + 1]))


def _view_change(poses: Tensor) -> float:
    """The largest angle in degrees between the first orientation and a later one."""
    return math.degrees(float(se3.rotation_angle(poses[:1, :3, :3], poses[:, :3, :3]).max()))


def _main_turn(
    poses: Tensor, segments: tuple[Segment, ...], turns: tuple[float, ...], main: int, config: BalanceConfig
) -> str:
    """The side, in the camera's axes there, of the sharpest turn after the main segment."""
    later = range(main, len(turns))
    if not later:
        return "none"
    turn = max(later, key=lambda k: turns[k])
    if turns[turn] > config.reverse_above:
        return "reverse"
    before, after = segments[turn].direction, segments[turn + 1].direction
    sideways = after - (after @ before) * before
    return _name(poses[segments[turn + 1].first, :3, :3].T @ sideways)


def _line(points: Tensor) -> Tensor:
    """Unit direction of the least-squares line through the points, signed from first to last."""
    _, _, axes = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    return axes[0] * (1.0 if float(axes[0] @ (points[-1] - points[0])) >= 0 else -1.0)


def _angle(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b)))))


def _name(direction: Tensor) -> str:
    axis = int(direction.abs().argmax())
    return DIRECTIONS[2 * axis + int(direction[axis] < 0)]


def _importance(views: list[float], turns: tuple[float, ...], config: BalanceConfig) -> float:
    angles = [view for view in views if view > config.view_change] + list(turns)
    return len(angles) + sum(angles) / 90.0
