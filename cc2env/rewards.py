"""Rewards as plain functions of poses and pictures: metres, radians, cubic metres; no state, no environment.

Poses are camera-to-world [4, 4] in the world frame, in metres. The rotation weight turns radians into metres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

ROTATION_WEIGHT = 1.0  # metres for each radian: 1 m and 1 rad move content at 1 m equally


@dataclass(frozen=True, eq=False)
class Transition:
    """One step as a reward sees it.

    Attributes:
        start_c2w: The pose before the clip.
        c2w: The poses that the camera reached, one for each latent pose.
        commanded_c2w: The poses that the action commanded; equal to `c2w` where nothing stops the camera.
        blocked: Whether the action led into an obstacle.
        frames: The clip.
        first_frame: The first frame of the episode.
        intrinsics: fx fy cx cy divided by the image's width and height.
        clip_index: Clips since `reset`, this one counted.
    """

    start_c2w: Float[np.ndarray, "4 4"]
    c2w: Float[np.ndarray, "p 4 4"]
    commanded_c2w: Float[np.ndarray, "p 4 4"]
    blocked: bool
    frames: UInt8[np.ndarray, "f h w 3"]
    first_frame: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "4"]
    clip_index: int


RewardFunction = Callable[[Transition], float]


def rotation_angle(c2w_a: Float[np.ndarray, "*b 4 4"], c2w_b: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b"]:
    """Returns the angle in radians, in [0, pi], between the directions of two cameras."""
    difference = np.asarray(c2w_a[..., :3, :3] - c2w_b[..., :3, :3], np.float64)
    chord = np.linalg.norm(difference, axis=(-2, -1)) / (2 * np.sqrt(2))  # sin of half the angle
    angle: np.ndarray = 2 * np.arcsin(np.clip(chord, 0.0, 1.0))
    return np.asarray(angle)


def distance_between(c2w_a: Float[np.ndarray, "*b 4 4"], c2w_b: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b"]:
    """Returns the metres between the centres of two cameras."""
    return np.asarray(np.linalg.norm(np.asarray(c2w_a[..., :3, 3] - c2w_b[..., :3, 3], np.float64), axis=-1))


def pose_distance(
    c2w_a: Float[np.ndarray, "*b 4 4"], c2w_b: Float[np.ndarray, "*b 4 4"], rotation_weight: float = ROTATION_WEIGHT
) -> Float[np.ndarray, "*b"]:
    """Returns metres between the centres plus rotation_weight times the radians between the directions."""
    return np.asarray(distance_between(c2w_a, c2w_b) + rotation_weight * rotation_angle(c2w_a, c2w_b))


def progress(
    before: Float[np.ndarray, "4 4"],
    after: Float[np.ndarray, "4 4"],
    goal: Float[np.ndarray, "4 4"],
    rotation_weight: float = ROTATION_WEIGHT,
) -> float:
    """Returns the decrease of the pose distance to the goal, in metres; negative when it grew.

    Source: Ng, Harada and Russell (1999), potential-based shaping: an episode's sum depends on its ends only.
    """
    distance = pose_distance(np.stack([before, after]), np.stack([goal, goal]), rotation_weight)
    return float(distance[0] - distance[1])


def path_length(start_c2w: Float[np.ndarray, "4 4"], c2w: Float[np.ndarray, "p 4 4"]) -> float:
    """Returns the metres from the start through the centres of all poses."""
    return float(distance_between(c2w, np.concatenate([start_c2w[None], c2w[:-1]])).sum())


def camera_motion(
    start_c2w: Float[np.ndarray, "4 4"],
    c2w: Float[np.ndarray, "p 4 4"],
    rotation_weight: float = ROTATION_WEIGHT,
) -> float:
    """Returns the camera's motion: metres along its path plus rotation_weight times the radians it turned."""
    return float(pose_distance(c2w, np.concatenate([start_c2w[None], c2w[:-1]]), rotation_weight).sum())


def path_error(
    c2w: Float[np.ndarray, "p 4 4"],
    reference: Float[np.ndarray, "p 4 4"],
    rotation_weight: float = ROTATION_WEIGHT,
) -> float:
    """Returns the mean pose distance between the poses and those of the reference path at the same times, in metres."""
    return float(pose_distance(c2w, reference, rotation_weight).mean())


def view_voxels(
    c2w: Float[np.ndarray, "p 4 4"],
    intrinsics: Float[np.ndarray, "4"],
    reach: float,
    voxel: float,
    shape: tuple[int, int, int] | None = None,
) -> Int64[np.ndarray, "v 3"]:
    """Returns the indices of the voxels in view: those whose centre lies in the frustum of at least one pose.

    Voxel (i, j, k) is the cube from (i, j, k) * voxel to (i + 1, j + 1, k + 1) * voxel in the world frame.

    The frustum ends at `reach` metres of z-depth; occlusion is ignored, since a world may not know its depth.

    Args:
        c2w: Poses.
        intrinsics: fx fy cx cy, normalised.
        reach: Metres.
        voxel: Edge of a voxel in metres.
        shape: Size of the map round the origin; voxels outside do not count, which bounds the work of a wide lens.
    """
    corners = _frustum_corners(intrinsics, reach)
    found = [np.zeros((0, 3), np.int64)]
    for pose in np.asarray(c2w, np.float64):
        in_world = corners @ pose[:3, :3].T + pose[:3, 3]
        low, high = np.floor(in_world.min(0) / voxel).astype(int), np.floor(in_world.max(0) / voxel).astype(int)
        if shape is not None:
            half = np.array(shape) // 2
            low, high = np.maximum(low, -half), np.minimum(high, np.array(shape) - half - 1)
        axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
        index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        x, y, z = (((index + 0.5) * voxel - pose[:3, 3]) @ pose[:3, :3]).T
        near = np.maximum(z, 1e-9)
        u, v = x / near * intrinsics[0] + intrinsics[2], y / near * intrinsics[1] + intrinsics[3]
        found.append(index[(z > 0) & (z <= reach) & (abs(u - 0.5) <= 0.5) & (abs(v - 0.5) <= 0.5)])
    return np.unique(np.concatenate(found), axis=0)


def newly_covered(
    covered: Bool[np.ndarray, "x y z"], voxels: Int64[np.ndarray, "v 3"]
) -> tuple[Bool[np.ndarray, "x y z"], int]:
    """Returns the map with these voxels covered, and how many of them are new.

    Args:
        covered: A map of voxels with the world's origin in its middle; voxels outside of it do not count.
        voxels: Unique indices from `view_voxels`.
    """
    index = voxels + np.array(covered.shape) // 2
    inside = index[((index >= 0) & (index < covered.shape)).all(axis=1)]
    after = covered.copy()
    after[tuple(inside.T)] = True
    return after, int(after.sum() - covered.sum())


def coverage_per_metre(new_volume: float, length: float, shortest: float = 1.0) -> float:
    """Returns cubic metres of new view for each metre flown.

    Args:
        new_volume: Cubic metres.
        length: Metres flown for them.
        shortest: Least metres to divide by, so that turning on the spot is no division by zero.
    """
    return new_volume / max(length, shortest)


def picture_similarity(a: UInt8[np.ndarray, "h w 3"], b: UInt8[np.ndarray, "h w 3"], block: int = 8) -> float:
    """Returns the structural similarity of two pictures in [0, 1]; 1 for the same picture.

    Source: Wang et al. (2004), Eq. 13, on disjoint blocks instead of a sliding window, which a reward does not need;
    negative values, where patterns are inverted, count as 0.
    """
    height, width = a.shape[0] // block * block, a.shape[1] // block * block
    if height and width:
        shape = (height // block, block, width // block, block, 3)
        first, second = (x[:height, :width].reshape(shape).swapaxes(1, 2) / 255.0 for x in (a, b))
        axes: tuple[int, ...] = (2, 3)
    else:  # a picture smaller than a block is one block
        first, second, axes = a / 255.0, b / 255.0, (0, 1)
    mean_a, mean_b = first.mean(axes), second.mean(axes)
    covariance = (first * second).mean(axes) - mean_a * mean_b
    variances = first.var(axes) + second.var(axes)
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    similarity = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure
    return float(np.clip(similarity.mean(), 0.0, 1.0))


def _frustum_corners(intrinsics: np.ndarray, reach: float) -> Float[np.ndarray, "5 3"]:
    """The centre and the four far corners, in the camera's axes."""
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    x, y = ((np.array([0.0, 1.0]) - c) / f * reach for c, f in ((cx, fx), (cy, fy)))
    return np.array([[0.0, 0.0, 0.0], *([across, down, reach] for across in x for down in y)])
