"""Which world an environment flies through, kept by name, so that environments pickle without their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.world.load import load_world
from model.world.protocol import WorldModel


@dataclass(frozen=True, kw_only=True)
class WorldChoice:
    """The arguments of an environment that name its world and how it samples.

    Attributes:
        world: A name, a folder, or a world that is already built.
        sampler_steps: Steps of the ODE solver for each clip; None is the world's own, also below.
        guidance_text: Guidance weight of the prompt for each clip.
        guidance_camera: Guidance weight of the camera for each clip.
        device: Where the network runs.
    """

    world: str | Path | WorldModel = "tiny"
    sampler_steps: int | None = None
    guidance_text: float | int | None = None
    guidance_camera: float | int | None = None
    device: str = "cpu"

    def load(self) -> WorldModel:
        """Returns the world; weights are read once for each process.

        Raises:
            FileNotFoundError: There is no such world.
            ValueError: A setting is out of range or has no effect.
        """
        if isinstance(self.world, str | Path):
            return load_world(
                self.world,
                sampler_steps=self.sampler_steps,
                guidance_text=None if self.guidance_text is None else float(self.guidance_text),
                guidance_camera=None if self.guidance_camera is None else float(self.guidance_camera),
                device=self.device,
            )
        settings = (self.sampler_steps, self.guidance_text, self.guidance_camera, self.device)
        if settings != (None, None, None, "cpu"):
            raise ValueError(
                "sampler_steps, guidance_text, guidance_camera, device: expected none of them beside a world that is "
                f"already built, got {settings}; build the world with them"
            )
        return self.world
