"""`python -m agents.reconstruct`: the scene of a saved flight as a cloud of points, and as a COLMAP model."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from agents.motion_cloud import solve_motion
from agents.point_cloud import View, fuse
from cc2env.files import lock_folder, whole_file
from cc2env.geometry import CameraTrajectory, ColmapPoints, write_colmap_text
from configs.command_line import hydra_command

if TYPE_CHECKING:
    from agents.fly.session import Session

METHODS = ("depth", "sfm")
_MOST_VIEWS = 64  # each is compared with every other


@dataclass(kw_only=True)
class ReconstructConfig:
    """`python -m agents.reconstruct`; see `--help`."""

    run: str | None = None
    out: str | None = None
    method: str = "depth"
    tolerance: float = 0.04
    min_views: int = 2
    cell: float = 0.05
    most_depth: float = 12.0


def reconstruct(config: ReconstructConfig) -> Path:
    """Flies a saved flight again and writes its scene; returns the folder.

    Raises:
        ValueError: The folder holds no saved flight, its world sees no depth, COLMAP finds no camera in its frames, or
            no two views agree on a point.
    """
    from tqdm import tqdm

    from agents.fly.record import load_flight
    from agents.fly.session import ROOT, open_session

    if config.run is None:
        raise ValueError("run: expected the folder of a saved flight, got none; save one with python -m agents.fly")
    if config.method not in METHODS:
        raise ValueError(f"method: expected one of {list(METHODS)}, got {config.method!r:.80}; choose one")
    flight = load_flight(config.run)
    with contextlib.closing(open_session(flight.settings)) as session:
        at = ROOT
        for key, prompt in tqdm(flight.moves, desc="flying", unit="clip"):
            at = session.fly(at, key, prompt).index
        views, points = session_scene(session, at, config)
    if not len(points.xyz):
        raise ValueError(f"run: expected views that agree on some points, got none of {len(views)} views; fly on")
    out = Path(config.run) / "reconstruction" if config.out is None else Path(config.out)
    with lock_folder(out):
        write_scene(out, views, points)
    print(f"{len(points.xyz)} points of {len(views)} views\nwritten: {out}")
    return out


def session_scene(session: "Session", index: int, config: ReconstructConfig) -> tuple[list[View], ColmapPoints]:
    """Returns the views along the path to a clip and the points on which they agree; see `ReconstructConfig`.

    Raises:
        ValueError: There is no such clip, the world sees no depth, or COLMAP finds no camera in its frames.
    """
    views = session_views(session, index, has_depth=config.method == "depth")
    if config.method == "sfm":
        return solve_motion(views, min_views=config.min_views)
    return views, fuse(
        views,
        tolerance=config.tolerance,
        min_views=config.min_views,
        cell=config.cell,
        most_depth=config.most_depth,
    )


def session_views(session: "Session", index: int, *, has_depth: bool = True) -> list[View]:
    """Returns frames with their depth at the poses of the path to a clip; of many frames, evenly spaced ones.

    Without `has_depth` the world is not asked for depth: it is infinite everywhere.

    Raises:
        ValueError: There is no such clip, or the world sees no depth.
    """
    views = []
    for clip in session.path(index):
        poses = clip.info["achieved_c2w"]
        depth = session.depth(clip.index) if has_depth else np.full((len(poses), 1, 1), np.inf, np.float32)
        if clip.parent is None:
            depth, poses = depth[-1:], poses[-1:]
        frames = clip.frames[len(clip.frames) // len(poses) - 1 :: len(clip.frames) // len(poses)]
        intrinsics = clip.info["intrinsics"]
        views += [View(*view, intrinsics) for view in zip(frames, depth, poses, strict=True)]
    return views[:: -(-len(views) // _MOST_VIEWS)]


def write_scene(folder: Path, views: Sequence[View], points: ColmapPoints) -> None:
    """Writes `points.ply`, `images/` and the COLMAP model `sparse/0/`, as Gaussian-splat trainers read them."""
    names = [f"{index:06d}.png" for index in range(len(views))]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, view in zip(names, views, strict=True):
        with whole_file(folder / "images" / name) as partial:
            Image.fromarray(view.frame).save(partial, "PNG")
    c2w = torch.from_numpy(np.stack([view.c2w for view in views]))
    intrinsics = torch.from_numpy(np.stack([view.intrinsics for view in views]))
    height, width = views[0].frame.shape[:2]
    camera = CameraTrajectory(c2w, intrinsics)
    write_colmap_text(folder / "sparse" / "0", camera, height, width, names, points)
    write_ply(folder / "points.ply", points.xyz, points.rgb)


def write_ply(path: Path, xyz: np.ndarray, rgb: np.ndarray) -> None:
    """Writes points [n, 3] and colours [n, 3] as a binary PLY file."""
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.empty(len(xyz), kinds)
    for column, name in enumerate("xyz"):
        rows[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = rgb[:, column]
    properties = [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in kinds]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}", *properties, "end_header", ""]
    with whole_file(path) as partial:
        partial.write_bytes("\n".join(header).encode() + rows.tobytes())


main = hydra_command("configs", "reconstruct", ReconstructConfig, reconstruct, "stopped")


if __name__ == "__main__":
    main()
