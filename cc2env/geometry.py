"""Geometry for agents, re-exported, since agents import the environment and never the model."""

from model.geometry import se3
from model.geometry.alignment import similarity, trajectory_errors, transform
from model.geometry.camera import pixel_grid, project, unproject
from model.geometry.colmap_text import ColmapPoints, Track, write_colmap_text
from model.geometry.trajectory import CameraTrajectory
from model.geometry.trajectory_io import (
    read_realestate10k,
    read_timed_trajectory,
    read_trajectory,
    write_npy,
    write_realestate10k,
)

__all__ = [
    "CameraTrajectory",
    "ColmapPoints",
    "Track",
    "pixel_grid",
    "project",
    "read_realestate10k",
    "read_timed_trajectory",
    "read_trajectory",
    "se3",
    "similarity",
    "trajectory_errors",
    "transform",
    "unproject",
    "write_colmap_text",
    "write_npy",
    "write_realestate10k",
]
