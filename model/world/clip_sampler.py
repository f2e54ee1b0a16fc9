"""One clip from noise: clean context latents in front, Eq. 3 guidance, an ODE solver (the paper, Sec. 3.4)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model.diffusion.guidance import guidance_branches, guided_velocity
from model.diffusion.rectified_flow import interpolate
from model.diffusion.solver import evaluations_of, solver_named
from model.diffusion.timesteps import sampling_schedule
from model.dit.attention import KeyValue
from model.dit.camera_inputs import camera_inputs
from model.dit.projective import ProjectiveEncoding, projective_encoding
from model.dit.video_dit import VideoDiT


@dataclass(kw_only=True)
class SamplerConfig:
    """How a clip is sampled. Weights of 1 mean the plain conditional velocity: one evaluation a call.

    `context_noise` is the diffusion time to which the context of an extension is noised, and the timestep that its
    frames carry; the network must be trained for it (`diffusion.context_noise`). 0: clean, as the paper's Table 5
    advises.

    Raises:
        ValueError: for a setting out of range.
    """

    num_steps: int = 8
    solver: str = "euler"
    shift: float = 1.0
    guidance_text: float = 1.0
    guidance_camera: float = 1.0
    context_noise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.num_steps, int) or self.num_steps < 1:
            raise ValueError(f"sampler_steps: expected a whole number, at least 1, got {self.num_steps!r}")
        if self.solver not in ("euler", "heun"):
            raise ValueError(f"solver: expected 'euler' or 'heun', got {self.solver!r}")
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"shift: expected a positive number, got {self.shift}")
        for name in ("guidance_text", "guidance_camera"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}: expected a finite number, got {getattr(self, name)}")
        if not 0 <= self.context_noise < 1:
            raise ValueError(f"context_noise: expected a number in [0, 1), got {self.context_noise}")

    def evaluations(self, has_text: bool = True, has_camera: bool = True) -> int:
        """Network evaluations per sample, with or without a prompt, for a network with or without camera input."""
        branches = len(guidance_branches(has_text, has_camera, self.guidance_text, self.guidance_camera))
        return branches * evaluations_of(self.solver, self.num_steps)  # type: ignore[arg-type]


def sample_clip(
    dit: VideoDiT,
    noise: Float[Tensor, "b c new h w"],
    context: Float[Tensor, "b c n h w"],
    c2w: Float[Tensor, "b n_plus_new 4 4"],
    intrinsics: Float[Tensor, "b 4"],
    text: Float[Tensor, "b tokens d"],
    null_text: Float[Tensor, "b tokens d"],
    sampler: SamplerConfig,
    context_noise: Float[Tensor, "b c n h w"] | None = None,
) -> Float[Tensor, "b c new h w"]:
    """New latents, float32, that continue `context` (n may be 0) along the poses of context and new latents.

    All poses are in the one world frame. Context tokens are clean, marked in the mask channel, and carry timestep 0.
    With `context_noise` (standard normal) they are noised to the time `sampler.context_noise` and carry that timestep.
    """
    b, _, num_new, h, w = noise.shape
    num_context = context.shape[2]
    context_t = torch.zeros((), device=noise.device)
    if context_noise is not None:
        context_t = context_t + sampler.context_noise
        context = interpolate(context, context_noise, context_t)
    is_context = torch.arange(num_context + num_new, device=noise.device).expand(b, -1) < num_context
    cameras = camera_inputs(dit.config, c2w, intrinsics, h, w, num_context)
    guided = guided_velocity(
        _Conditioned(dit, num_context),
        text,
        null_text,
        cameras.get("plucker"),
        sampler.guidance_text,
        sampler.guidance_camera,
        is_context,
        cameras.get("projection"),
    )

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        frame_t = torch.where(is_context, context_t, t[:, None])
        return guided(torch.cat([context, x], dim=2), frame_t)

    schedule = sampling_schedule(sampler.num_steps, sampler.shift, noise.device)
    return solver_named(sampler.solver)(velocity, noise, schedule)  # type: ignore[arg-type]


class _Conditioned:
    """The velocity of the new latents; text keys and camera tokens are computed at the first call only."""

    def __init__(self, dit: VideoDiT, num_context: int) -> None:
        self._dit, self._num_context = dit, num_context
        self._dtype = next(dit.parameters()).dtype
        self._made_from: tuple[Tensor, Tensor | None] | None = None
        self._text_keys: list[KeyValue] = []
        self._camera_tokens: Tensor | None = None
        self._projective: ProjectiveEncoding | None = None

    def __call__(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        projection: Tensor | None = None,
    ) -> Tensor:
        if self._made_from is None or self._made_from[0] is not text or self._made_from[1] is not plucker:
            self._text_keys = self._dit.encode_text(text.to(self._dtype))
            self._camera_tokens = None if plucker is None else self._dit.embed_camera(plucker.to(self._dtype))
            if projection is not None:
                self._projective = projective_encoding(projection, self._dit.config.head_dim)
            self._made_from = (text, plucker)
        velocity: Tensor = self._dit(
            latents.to(self._dtype),
            t,
            context_mask=context_mask if self._dit.config.mask_channel else None,
            text_keys=self._text_keys,
            camera_tokens=self._camera_tokens,
            projection=self._projective,
            num_context=self._num_context,
        )
        return velocity.float()
