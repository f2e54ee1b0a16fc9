"""For authors of a world: `check_world` says which rules of the protocol it breaks."""

from cc2env.testing.check import WorldCheckError, check_world

__all__ = ["WorldCheckError", "check_world"]
