"""One step of the video DiT: text-to-video, image-to-video and extension are one loss with 0, 1 or n context frames."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.diffusion.rectified_flow import interpolate, velocity_loss
from model.diffusion.timesteps import DENSITIES, sample_timesteps
from model.dit.camera_injection.ac3d import sample_camera_times
from model.dit.video_dit import VideoDiTConfig
from model.training.windows import LatentBatch, TrainingWindow, WindowConfig, WindowSampler, task_name


@dataclass(kw_only=True)
class FlowMatchingConfig(WindowConfig):
    """Windows, and the density and shift of the diffusion times (see `sample_timesteps`).

    Raises:
        ValueError: As `WindowConfig`, or a setting of the times is out of range.
    """

    density: str = "logit_normal"
    shift: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density not in DENSITIES:
            raise ValueError(f"diffusion.density: expected logit_normal or uniform, got {self.density!r}")
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"shift: expected a positive number, got {self.shift}; 1 leaves the times as they are")


class FlowMatchingStep:
    """Step function of `fit` for a VideoDiT, of configuration `dit`, and a LatentBatch.

    `channel_weights` as in `velocity_loss`. For `camera_injection=ac3d`, clips with a camera are trained only at the
    times at which it is used; clips without one at all times, as in every other network.

    Source: the paper, Sec. 3.3 (unlabelled video trains with an all-zero Plucker map) and Sec. 3.4 (clean context
    frames with a mask, loss on the new ones, joint with single clips).
    """

    def __init__(
        self,
        config: FlowMatchingConfig,
        null_text: Float[Tensor, "n d"],
        *,
        channel_weights: Float[Tensor, " c"] | None = None,
        dit: VideoDiTConfig | None = None,
    ) -> None:
        self.config, self.channel_weights = config, channel_weights
        self.windows = WindowSampler(config, null_text, dit)

    def __call__(
        self, module: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the mean loss of the new frames, and the same under the task's name (t2v, i2v or ext)."""
        window = self.windows.draw_window(batch, generator)
        x0, context, num_context = window.latents, window.is_context, window.num_context
        t = self.draw_times(window, generator)[:, None].expand_as(context)
        t = torch.where(context, self.windows.draw_context_times(window, generator), t)
        noise = torch.empty_like(x0).normal_(generator=generator)
        x_t = interpolate(x0, noise, t)
        text = self.windows.drop_text(window.text, generator)
        prediction = module(x_t, t, text, context_mask=context, num_context=num_context, **window.cameras)
        loss = velocity_loss(prediction, (noise - x0)[:, :, num_context:], self.channel_weights).mean()
        return loss, {f"loss_{task_name(num_context)}": loss.detach()}

    def draw_times(self, window: TrainingWindow, generator: torch.Generator) -> Float[Tensor, " b"]:
        """The diffusion time of each row's new frames."""
        num = len(window.latents)
        t = sample_timesteps(num, generator, self.config.density, self.config.shift)
        if self.windows.dit.camera_injection == "ac3d":
            t = torch.where(window.labelled, sample_camera_times(num, generator), t)
        return t
