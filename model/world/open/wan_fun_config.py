"""Settings of a Wan-Fun-Control-Camera folder, which a `world.yaml` beside the weights may change."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from model.config_file import read_yaml
from model.dit.wan_fun import FRAMES_PER_LATENT
from model.world.config import WORLD_FILE
from model.world.open.default_prompts import DEFAULT_PROMPTS
from model.world.protocol import WorldSpec

KIND = "wan_fun"
_UNIT = 16  # pixels along a side of a token
# The lens of the published example paths, for a picture of 16:9; another shape is cut from its middle.
_ASPECT, _FX, _FY = 16 / 9, 0.532139961, 0.946026558


@dataclass(kw_only=True)
class WanFunWorldConfig:
    """Settings of a folder; the defaults are the authors' for 480p, except for the texts, which are ours.

    Attributes:
        kind: Says that the folder holds this model.
        height: Of a frame, pixels.
        width: Likewise.
        fps: Frames per second of the film.
        num_frames: Frames that the network makes at once: the given picture and 4k new ones.
        num_steps: Steps of Euler's method.
        shift: Timestep shift: above 1, more steps near noise.
        boundary: With two experts (Wan 2.2 A14B), the time in [0, 1] down to which the first is used; None: the
            authors' 0.9. With one transformer always None.
        guidance_text: Guidance weight of the prompt against the negative prompt, for both experts; 1: no guidance.
        negative_prompt: What the film should not be.
        metres_per_unit: Length of the network's unit of translation. It was trained on films without metric scale;
            estimate it (`model.evaluation.world_unit`).
        default_prompts: One is drawn by the seed for an episode without prompt and image.

    Raises:
        ValueError: for a number out of range.
    """

    kind: str = KIND
    height: int = 480
    width: int = 832
    fps: float = 16.0
    num_frames: int = 81
    num_steps: int = 50
    shift: float = 5.0
    boundary: float | None = None
    guidance_text: float = 6.0
    negative_prompt: str = "still picture, blurred, distorted, overexposed, subtitles, watermark, low quality"
    metres_per_unit: float = 1.0
    default_prompts: list[str] = field(default_factory=lambda: list(DEFAULT_PROMPTS))

    def __post_init__(self) -> None:
        for name, least, most in (("height", 16, 4096), ("width", 16, 4096), ("num_frames", 5, 321)):
            value = getattr(self, name)
            if not least <= value <= most or (name != "num_frames" and value % _UNIT):
                step = "" if name == "num_frames" else f", a multiple of {_UNIT}"
                raise ValueError(f"{name}: expected {least} to {most}{step}, got {value}")
        if self.num_frames % FRAMES_PER_LATENT != 1:
            raise ValueError(f"num_frames: expected 1 + {FRAMES_PER_LATENT}k, got {self.num_frames}")
        if not 1 <= self.num_steps <= 1000:
            raise ValueError(f"sampler_steps: expected 1 to 1000, got {self.num_steps}")
        for name in ("fps", "shift", "metres_per_unit"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.boundary is not None and not 0 <= self.boundary <= 1:
            raise ValueError(f"boundary: expected 0 to 1, got {self.boundary}")
        if not math.isfinite(self.guidance_text):
            raise ValueError(f"guidance_text: expected a finite number, got {self.guidance_text}")

    def spec(self) -> WorldSpec:
        """Sizes and units of the world."""
        aspect = self.width / self.height
        fx = _FX * max(1.0, _ASPECT / aspect)
        fy = _FY * max(1.0, aspect / _ASPECT)
        evaluations = self.num_steps * (1 if self.guidance_text == 1 else 2)
        return WorldSpec(
            height=self.height,
            width=self.width,
            intrinsics=(fx, fy, 0.5, 0.5),
            fps=self.fps,
            frames_per_clip=self.num_frames - 1,
            poses_per_clip=(self.num_frames - 1) // FRAMES_PER_LATENT,
            evaluations_per_clip=evaluations,
            evaluations_per_opening=evaluations,
        )


def read_wan_fun_world_config(folder: Path) -> WanFunWorldConfig:
    """The folder's `world.yaml`, or the defaults where there is none.

    Raises:
        ValueError: for broken YAML, unknown keys, or values of the wrong type or out of range.
    """
    path = folder / WORLD_FILE
    return read_yaml(path, WanFunWorldConfig) if path.is_file() else WanFunWorldConfig()
