"""Geometry for agents, re-exported, since agents import the environment and never the model."""

from model.geometry import se3
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
    "read_realestate10k",
    "read_timed_trajectory",
    "read_trajectory",
    "se3",
    "write_npy",
    "write_realestate10k",
]
