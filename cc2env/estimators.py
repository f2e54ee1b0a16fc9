"""Structure from motion for agents, re-exported, since agents import the environment and never the model."""

from model.estimators.sfm import ColmapSfM, Reconstruction, ReconstructionFailed

__all__ = ["ColmapSfM", "Reconstruction", "ReconstructionFailed"]
