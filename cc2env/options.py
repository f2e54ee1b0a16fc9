"""The options of an environment, as keyword arguments and as a configuration."""

from dataclasses import dataclass

from model.world.options import WorldOptions


@dataclass(kw_only=True)
class EnvOptions(WorldOptions):
    """The options of the world and of the clips. None: the world's own value.

    Attributes:
        poses_per_clip: Latent poses of a clip, a multiple of the world's own.
        horizontal_fov_deg: Horizontal field of view in degrees.
    """

    poses_per_clip: int | None = None
    horizontal_fov_deg: float | None = None
