"""The learned world: each step samples the latents of the next clip along the commanded poses and decodes them.

An episode is one long causal video: the decoder's cache is part of the state, so clips join without a seam.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Int, UInt8
from tensordict import TensorDict
from torch import Tensor

from model.data.video_io import to_float, to_uint8
from model.dit.video_dit import VideoDiT
from model.text.encoder import TextEncoder
from model.vae.video_vae import VideoVAE
from model.world import memory
from model.world.arguments import (
    check_images,
    check_intrinsics,
    check_prompts,
    check_seeds,
    check_segment,
    opening_state,
)
from model.world.clip_sampler import SamplerConfig, sample_clip
from model.world.networks import networks_fingerprint
from model.world.noise import episode_noise, noise_seed
from model.world.protocol import WorldSpec, WorldState


class CameraWorld:
    """A `WorldModel` made of a video DiT, a causal VAE and a text encoder.

    A state's memory holds `window` (see `model.world.memory`), `text` `[b, n, d]`, the VAE's cache `decoder` and
    `fingerprint` `[b]`, of sizes and weights.

    Args:
        dit: Predicts velocities; in eval mode. Its device and dtype are the world's.
        vae: Encodes frames and decodes latents; on the same device.
        text_encoder: Embeds prompts.
        spec: Sizes; the numbers of evaluations are filled in from `sampler` and `opening`.
        sampler: How clips are sampled.
        opening: How the first latent frame is sampled if there is no image; as `sampler` by default.
        context_latents: Maximum number of latent frames that condition the next clip.
        memory_latents: How many of them are chosen by view overlap from all in the window; the others are the latest
            ones. 0: all are the latest.
        memory_capacity: Latent frames that the window holds, if `memory_latents` is not 0.
        default_prompts: One is drawn by the seed for episodes that get neither prompt nor image.
        familiar_psnr: See `WorldConfig`.

    Raises:
        ValueError: if sizes do not fit the networks.
    """

    def __init__(
        self,
        dit: VideoDiT,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        spec: WorldSpec,
        *,
        sampler: SamplerConfig,
        opening: SamplerConfig | None = None,
        context_latents: int = 5,
        memory_latents: int = 0,
        memory_capacity: int = 64,
        default_prompts: Sequence[str] = (),
        familiar_psnr: float | None = None,
    ) -> None:
        _check_fit(dit, vae, text_encoder, spec, context_latents, memory_latents)
        self._dit, self._vae, self._text_encoder = dit, vae, text_encoder
        self._sampler, self._opening = sampler, opening or sampler
        self._spec = replace(
            spec,
            evaluations_per_clip=self._sampler.evaluations(has_camera=dit.config.camera),
            evaluations_per_opening=self._opening.evaluations(has_camera=dit.config.camera),
        )
        self._context_latents, self._memory_latents = context_latents, memory_latents
        self._capacity = max(context_latents, memory_capacity) if memory_latents else context_latents
        self._default_prompts, self._familiar_psnr = tuple(default_prompts), familiar_psnr
        self._device = next(dit.parameters()).device

    @property
    def spec(self) -> WorldSpec:
        return self._spec

    @property
    def dit(self) -> VideoDiT:
        """The network that predicts velocities."""
        return self._dit

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All words that prompts may use, or None if any word is allowed."""
        words: tuple[str, ...] | None = getattr(self._text_encoder, "vocabulary", None)
        return words

    def default_prompt(self, seed: int) -> str:
        """The prompt of an episode that is given neither prompt nor image: a function of the seed alone."""
        if not self._default_prompts:
            return ""
        return self._default_prompts[noise_seed(seed, -1) % len(self._default_prompts)]

    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, UInt8[Tensor, "b 1 h w 3"]]:
        """See `WorldModel.start`. The first latent is the encoded image or, without one, generated from the prompt."""
        values = check_seeds(seeds)
        batch = len(values)
        check_prompts(prompts, batch)
        check_images(images, self._spec, batch)
        if prompts is None:
            prompts = [""] * batch if images is not None else [self.default_prompt(seed) for seed in values]
        memories = {
            "text": self._text_encoder.encode(list(prompts)),
            "fingerprint": torch.full((batch,), self._fingerprint),
        }
        state = opening_state(values, check_intrinsics(intrinsics, self._spec, batch), memories, self._device)
        with torch.inference_mode():
            latents = (
                self._open(state) if images is None else self._vae.encode(to_float(images[:, None].to(self._device)))
            )
            video, cache = self._vae.decode_chunk(latents, None)
            state.memory["window"] = memory.open_window(latents, state.c2w[:, None], self._capacity)
            state.memory["decoder"] = TensorDict(dict(cache), batch_size=[batch])
        first = to_uint8(video)
        if images is not None and self._familiar_psnr is not None:
            _warn_of_unlike(images, first[:, 0].to(images.device), self._familiar_psnr)
        return _outside(state, first)

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, UInt8[Tensor, "b frames h w 3"]]:
        self._check_state(state)
        c2w = check_segment(state, c2w, self._spec)
        with torch.inference_mode():
            latents = self._continue(state, c2w)
            video, cache = self._vae.decode_chunk(latents, dict(state.memory["decoder"].items()))
            extended = WorldState(
                c2w=c2w[:, -1],
                intrinsics=state.intrinsics,
                seed=state.seed,
                step=state.step + 1,
                memory=TensorDict(
                    {
                        "text": state.memory["text"],
                        "fingerprint": state.memory["fingerprint"],
                        "window": memory.slide(state.memory["window"], latents, c2w),
                        "decoder": TensorDict(dict(cache), batch_size=state.batch_size),
                    },
                    batch_size=state.batch_size,
                ),
                batch_size=state.batch_size,
            )
        return _outside(extended, to_uint8(video))

    def with_prompts(self, state: WorldState, prompts: Sequence[str]) -> WorldState:
        """See `ChangesPrompts.with_prompts`; the frames that the next clip is generated from stay as they are."""
        self._check_state(state)
        check_prompts(prompts, len(state.seed))
        changed = state.clone()
        changed.memory["text"] = self._text_encoder.encode(list(prompts)).to(self._device)
        return changed

    def _check_state(self, state: WorldState) -> None:
        if not self.recognises(state):
            raise ValueError("state: expected one of this world, got another world's; start an episode here")

    def recognises(self, state: WorldState) -> bool:
        known = {"text", "fingerprint", "decoder", ("window", "latents"), ("window", "c2w"), ("window", "count")}
        if not known <= set(state.memory.keys(include_nested=True)):
            return False
        latents, text = state.memory["window", "latents"], state.memory["text"]
        has_shapes = (
            list(latents.shape[-4:]) == list(self._latent_shape(self._capacity))
            and text.shape[-1] == self._text_encoder.dim
        )
        return has_shapes and bool((state.memory["fingerprint"] == self._fingerprint).all())

    @cached_property
    def _fingerprint(self) -> int:
        return networks_fingerprint(self._spec, self._dit, self._vae)

    def evaluations(self, state: WorldState, *, opening: bool = False) -> Int[Tensor, " b"]:
        sampler = self._opening if opening else self._sampler
        groups = [(torch.arange(len(state.seed)), 0)]
        if not opening:
            groups = list(memory.rows_by_count(state.memory["window"], self._context_latents))
        counts = torch.zeros(len(state.seed), dtype=torch.int64)
        for rows, _ in groups:
            text = state.memory["text"][rows]
            has_text = not torch.equal(text, self._text_encoder.null(len(rows)).to(text))
            counts[rows.cpu()] = sampler.evaluations(has_text, self._dit.config.camera)
        return counts

    def reconstruct(self, frames: UInt8[Tensor, "b f h w 3"]) -> UInt8[Tensor, "b f h w 3"]:
        """Frames encoded and decoded by the VAE: the best picture quality that this world can reach."""
        with torch.inference_mode():
            return to_uint8(self._vae.decode(self._vae.encode(to_float(frames.to(self._device))))).clone()

    def _open(self, state: WorldState) -> Tensor:
        """The first latent frame of each row, from noise."""
        rows = torch.arange(len(state.seed), device=self._device)
        shape = self._latent_shape(1)
        noise = episode_noise(state.seed, state.step, shape).to(self._device)
        none = noise[:, :, :0]
        return self._sample(state, rows, noise, none, state.c2w[:, None], self._opening)

    def _continue(self, state: WorldState, c2w: Tensor) -> Tensor:
        """The latents of the next clip of each row; rows with equally many context frames share network calls."""
        window = state.memory["window"]
        # step 0 opened the episode, so the noise of the first clip is that of step 1
        noise = episode_noise(state.seed, state.step + 1, self._latent_shape(self._spec.poses_per_clip)).to(
            self._device
        )
        latents = torch.empty_like(noise)
        for rows, count in memory.rows_by_count(window, self._context_latents):
            chosen = self._memory_latents if count == self._context_latents else 0
            context, poses = memory.choose_context(window[rows], c2w[rows], state.intrinsics[rows], count, chosen)
            poses = torch.cat([poses, c2w[rows]], dim=1)
            latents[rows] = self._sample(state, rows, noise[rows], context, poses, self._sampler)
        return latents

    def _sample(
        self, state: WorldState, rows: Tensor, noise: Tensor, context: Tensor, c2w: Tensor, sampler: SamplerConfig
    ) -> Tensor:
        null = self._text_encoder.null(len(rows)).to(self._device)
        text = state.memory["text"][rows]
        context_noise = None
        if sampler.context_noise > 0 and context.shape[2] > 1:  # a given first frame stays as it is
            # steps below -1 belong to no clip (-1 draws prompts), so this noise is independent of all other
            steps = -2 - state.step[rows]
            context_noise = episode_noise(state.seed[rows], steps, context.shape[1:]).to(self._device)
        return sample_clip(self._dit, noise, context, c2w, state.intrinsics[rows], text, null, sampler, context_noise)

    def _latent_shape(self, num_latents: int) -> tuple[int, int, int, int]:
        stride = self._vae.spatial_stride
        channels = self._dit.config.in_channels
        return channels, num_latents, self._spec.height // stride, self._spec.width // stride


def _outside(state: WorldState, frames: Tensor) -> tuple[WorldState, Tensor]:
    """Copies made outside inference mode: ordinary tensors that share no memory and whose rows can be assigned."""
    return state.clone(), frames.clone()


def _warn_of_unlike(images: UInt8[Tensor, "b h w 3"], shown: UInt8[Tensor, "b h w 3"], familiar: float) -> None:
    """Warns of first frames that the VAE reconstructs worse than pictures of the kind it was trained on."""
    error = (images.float() - shown.float()).div(255).square().mean(dim=(1, 2, 3))
    worst = -10 * float(error.max().clamp(min=1e-10).log10())
    if worst < familiar:
        warnings.warn(
            f"image: this picture is unlike what the world was trained on: its VAE gives it back at {worst:.1f} dB, "
            f"pictures of the world's own kind at {familiar:g} dB or more; its shapes will not last",
            UserWarning,
            stacklevel=3,
        )


def _check_fit(
    dit: VideoDiT,
    vae: VideoVAE,
    text_encoder: TextEncoder,
    spec: WorldSpec,
    context_latents: int,
    memory_latents: int,
) -> None:
    _, patch_h, patch_w = dit.config.patch_size
    unit_h, unit_w = vae.spatial_stride * patch_h, vae.spatial_stride * patch_w
    if spec.height % unit_h or spec.width % unit_w:
        raise ValueError(
            f"height, width: expected multiples of {unit_h} and {unit_w}, got {spec.height} and {spec.width}"
        )
    if spec.frames_per_clip != spec.poses_per_clip * vae.temporal_stride:
        raise ValueError(
            f"frames_per_clip: expected {spec.poses_per_clip} poses times {vae.temporal_stride} frames, "
            f"got {spec.frames_per_clip}"
        )
    if dit.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"dit: expected {vae.config.latent_channels} latent channels like the VAE's, got {dit.config.in_channels}"
        )
    if dit.config.text_dim != text_encoder.dim:
        raise ValueError(f"text_encoder: expected width {dit.config.text_dim} like the DiT's, got {text_encoder.dim}")
    if context_latents < 1:
        raise ValueError(f"context_latents: expected at least 1, got {context_latents}")
    if not 0 <= memory_latents < context_latents:
        raise ValueError(
            f"memory_latents: expected 0 to {context_latents - 1}, got {memory_latents}; the rest is latest"
        )
