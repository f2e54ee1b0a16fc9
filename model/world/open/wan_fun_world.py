"""Wan-Fun-Control-Camera as a world: each clip is a film from the last picture along the commanded poses."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from model.data.video_io import to_float, to_uint8
from model.diffusion.solver import euler
from model.diffusion.timesteps import sampling_schedule
from model.dit.wan_fun import FRAMES_PER_LATENT, WanFunDiT
from model.geometry import se3
from model.geometry.plucker import plucker_map
from model.geometry.trajectory import frame_poses
from model.text.encoder import TextEncoder
from model.vae.video_vae import VideoVAE
from model.world.arguments import (
    check_images,
    check_intrinsics,
    check_prompts,
    check_seeds,
    check_segment,
    opening_state,
)
from model.world.networks import networks_fingerprint
from model.world.noise import episode_noise, noise_seed
from model.world.open.clip_image_encoder import CLIPImageEncoder
from model.world.open.wan_fun_config import WanFunWorldConfig
from model.world.protocol import WorldSpec, WorldState

MASK_CHANNELS = FRAMES_PER_LATENT  # one for each video frame of a latent frame; 1: that frame is known
_BOUNDARY = 0.9  # from this time up the high-noise expert is used; the authors' value for Wan 2.2 A14B with a picture


class WanFunWorld:
    """A `WorldModel` of Wan-Fun-Control-Camera.

    The network makes 1 + 4k frames, the first of which is a given picture; its reference frame is that picture's
    camera. So the last frame shown is the picture of the next clip, the 4k other frames are the clip, and poses are
    relative to the picture's pose, in the network's unit. Everything seen before is forgotten. Of Wan 2.2 A14B's two
    experts, the first solves the times of high noise, the second the others.

    A state's memory holds `picture` `[b, h, w, 3]`, `text` `[b, n, d]` and `fingerprint` `[b]`.

    Args:
        transformers: In evaluation mode: one, or the high-noise and the low-noise expert. If they are on another
            device, the one in use is copied to `device` block by block.
        vae: On the device, in the transformer's type.
        text_encoder: Wan's UMT5.
        picture_encoder: CLIP's; copied to the device for each picture. None if the transformers do not read its tokens.
        config: Sizes, sampler, and the metres of the network's unit.
        device: Where clips are made and states live.

    Source: the paper, for one frame of reference over clips; aigc-apps/VideoX-Fun for what the network is given.
    """

    def __init__(
        self,
        transformers: tuple[WanFunDiT, ...],
        vae: VideoVAE,
        text_encoder: TextEncoder,
        picture_encoder: CLIPImageEncoder | None,
        config: WanFunWorldConfig,
        device: torch.device,
    ) -> None:
        self._transformers, self._vae, self._config, self._device = transformers, vae, config, device
        self._text_encoder, self._picture_encoder = text_encoder, picture_encoder
        self._spec = config.spec()

    @property
    def spec(self) -> WorldSpec:
        return self._spec

    def default_prompt(self, seed: int) -> str:
        """The prompt of an episode that is given neither prompt nor image: a function of the seed alone."""
        prompts = self._config.default_prompts
        return prompts[noise_seed(seed, -1) % len(prompts)] if prompts else ""

    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, UInt8[Tensor, "b 1 h w 3"]]:
        """See `WorldModel.start`. Without an image the network makes a film of one frame from the prompt alone."""
        values = check_seeds(seeds)
        batch = len(values)
        check_prompts(prompts, batch)
        check_images(images, self._spec, batch)
        if prompts is None:
            prompts = [""] * batch if images is not None else [self.default_prompt(seed) for seed in values]
        lens = check_intrinsics(intrinsics, self._spec, batch)
        memory = {"text": self._encode(prompts), "fingerprint": torch.full((batch,), self._fingerprint)}
        state = opening_state(values, lens, memory, self._device)
        with torch.inference_mode():
            if images is None:
                images = self._film(state, state.c2w[:, None], None)[:, 0]
            state.memory["picture"] = images.to(self._device)
        return state.clone(), state.memory["picture"][:, None].clone()

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, UInt8[Tensor, "b frames h w 3"]]:
        self._check_state(state)
        c2w = check_segment(state, c2w, self._spec)
        with torch.inference_mode():
            path = frame_poses(state.c2w.cpu(), c2w.cpu(), FRAMES_PER_LATENT).to(self._device)
            film = self._film(state, torch.cat([state.c2w[:, None], path], dim=1), state.memory["picture"])
        frames = film[:, 1:].clone()
        after = state.clone()
        after.c2w, after.step = c2w[:, -1].clone(), state.step + 1
        after.memory["picture"] = frames[:, -1].clone()
        return after, frames

    def with_prompts(self, state: WorldState, prompts: Sequence[str]) -> WorldState:
        """See `ChangesPrompts.with_prompts`."""
        self._check_state(state)
        check_prompts(prompts, len(state.seed))
        changed = state.clone()
        changed.memory["text"] = self._encode(prompts)
        return changed

    def recognises(self, state: WorldState) -> bool:
        """See `RecognisesStates.recognises`."""
        return {"picture", "text", "fingerprint"} == set(state.memory.keys()) and bool(
            (state.memory["fingerprint"] == self._fingerprint).all()
        )

    def evaluations(self, state: WorldState, *, opening: bool = False) -> Int[Tensor, " b"]:
        """See `CountsEvaluations.evaluations`; it is the same with and without a prompt."""
        spec = self._spec
        count = spec.evaluations_per_opening if opening else spec.evaluations_per_clip
        return torch.full((len(state.seed),), count)

    def _check_state(self, state: WorldState) -> None:
        if not self.recognises(state):
            raise ValueError("state: expected one of this world, got another world's; start an episode here")

    def _film(
        self, state: WorldState, c2w: Float[Tensor, "b f 4 4"], picture: Tensor | None
    ) -> UInt8[Tensor, "b f h w 3"]:
        """The frames at these poses, one for each frame; the first pose is that of the picture."""
        config, shape = self._config, self._latent_shape(c2w.shape[1])
        steps = state.step if picture is None else state.step + 1
        latents = episode_noise(state.seed, steps, shape).to(self._device)
        features = None
        if self._picture_encoder is not None:
            features = self._picture_encoder(picture, len(c2w), self._device)
        inputs = _Inputs(c2w, state.intrinsics, state.memory["text"], features, self._known(picture, len(c2w), shape))
        schedule = sampling_schedule(config.num_steps, config.shift, self._device)
        for dit, times in zip(self._transformers, self._shares(schedule), strict=True):
            if len(times) > 1:
                latents = self._solve(dit, inputs, latents, times)
        return self._decode(latents)

    def _latent_shape(self, num_frames: int) -> tuple[int, int, int, int]:
        """(channels, latent frames, height, width) of a film's latents."""
        num_latents = 1 + (num_frames - 1) // FRAMES_PER_LATENT
        channels = self._transformers[0].config.out_channels
        return channels, num_latents, self._config.height // 8, self._config.width // 8

    def _known(
        self, picture: Tensor | None, batch: int, shape: tuple[int, int, int, int]
    ) -> Float[Tensor, "b c_known f_z h_z w_z"]:
        """The transformers' input for the known part of the clip; zeros without a picture.

        It is the latents of the picture, then zeros. Transformers that read a mask get the mask first, and then the
        latents of a film that is grey after the picture.
        """
        num_known = self._transformers[0].config.in_channels - shape[0]
        known = torch.zeros(batch, num_known, *shape[1:], device=self._device)
        if picture is None:
            return known
        num_masks = num_known - shape[0]
        known[:, :num_masks, :1] = 1
        chunk, cache = to_float(picture[:, None]).to(self._transformers[0].dtype), None
        for k in range(shape[1] if num_masks else 1):
            latents, cache = self._vae.encode_chunk(chunk, cache)
            known[:, num_masks:, k : k + 1] = latents
            chunk = torch.zeros_like(chunk[:, :, :1]).expand(-1, -1, FRAMES_PER_LATENT, -1, -1)
        return known

    def _shares(self, schedule: Float[Tensor, "steps"]) -> list[Float[Tensor, "share"]]:
        """The part of the schedule that each transformer solves; one ends where the next begins."""
        if len(self._transformers) == 1:
            return [schedule]
        boundary = _BOUNDARY if self._config.boundary is None else self._config.boundary
        first = int((schedule[:-1] >= boundary).sum())
        return [schedule[: first + 1], schedule[first:]]

    def _solve(self, dit: WanFunDiT, inputs: "_Inputs", x: Tensor, times: Tensor) -> Tensor:
        """The latents at the last of these times, from those at the first."""
        weight = self._config.guidance_text
        with dit.on_device_without_blocks(x.device):
            image = None if inputs.features is None else dit.project_image(inputs.features)
            rows = zip(inputs.c2w, inputs.intrinsics, strict=True)
            camera = torch.cat([self._camera_tokens(dit, row, lens) for row, lens in rows])
            texts = [dit.project_text(inputs.text)]
            if weight != 1:
                texts.append(dit.project_text(self._negative_text.to(self._device)).expand_as(texts[0]))

            def velocity(x: Tensor, t: Tensor) -> Tensor:
                latents = torch.cat([x, inputs.known], dim=1)
                guided, *others = [dit(latents, t, text, image, camera).float() for text in texts]
                return others[0] + weight * (guided - others[0]) if others else guided

            return euler(velocity, x, times)

    def _camera_tokens(
        self, dit: WanFunDiT, c2w: Float[Tensor, "f 4 4"], intrinsics: Float[Tensor, "4"]
    ) -> Float[Tensor, "1 f_latent hw d"]:
        """Camera tokens, one row at a time: the maps of one row are as large as eight films."""
        poses = se3.relative(c2w[:1], c2w)[None]
        poses[..., :3, 3] /= self._config.metres_per_unit
        maps = plucker_map(poses, intrinsics[None], self._config.height, self._config.width)
        tokens: Tensor = dit.control_adapter(maps)
        return tokens

    def _decode(self, latents: Float[Tensor, "b c f_z h_z w_z"]) -> UInt8[Tensor, "b f h w 3"]:
        """Decodes one latent frame at a time: the activations of a whole film would not fit."""
        films, cache = [], None
        for latent in latents.split(1, dim=2):
            video, cache = self._vae.decode_chunk(latent.to(self._transformers[0].dtype), cache)
            films.append(to_uint8(video.float()))
        return torch.cat(films, dim=1)

    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
        return self._text_encoder.encode(list(prompts)).to(self._device)

    @cached_property
    def _negative_text(self) -> Float[Tensor, "1 n d"]:
        return self._encode([self._config.negative_prompt])

    @cached_property
    def _fingerprint(self) -> int:
        return networks_fingerprint(self._spec, *self._transformers, self._vae)


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a film besides noise: poses, lenses, encoded prompts, the picture's tokens, and known channels."""

    c2w: Float[Tensor, "b f 4 4"]
    intrinsics: Float[Tensor, "b 4"]
    text: Float[Tensor, "b n d"]
    features: Float[Tensor, "b m c"] | None
    known: Float[Tensor, "b c_known f_z h_z w_z"]
