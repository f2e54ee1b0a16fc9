"""Wan-Fun-Control-Camera as a world: each clip is a film from the last picture along the commanded poses."""

from collections.abc import Sequence
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
from model.world.open.clip_picture import PictureEncoder
from model.world.open.wan_fun_config import WanFunWorldConfig
from model.world.protocol import WorldSpec, WorldState


class WanFunWorld:
    """A `WorldModel` of Wan-Fun-Control-Camera.

    The network makes 1 + 4k frames from a picture, which is their first, in a frame of its own: the camera of that
    picture. So each clip begins at the last frame shown, its 4k other frames are the clip, and poses are given relative
    to the pose of that frame, in the network's unit. What else was seen is forgotten.

    A state's memory holds `picture` `[b, h, w, 3]`, `text` `[b, n, d]` and `fingerprint` `[b]`.

    Args:
        dit: In evaluation mode; its blocks may lie elsewhere than the rest, and are lent to its device one by one.
        vae: On the device, in the transformer's type.
        text_encoder: Wan's UMT5.
        picture_encoder: CLIP's; lent to the device for each picture.
        config: Sizes, sampler, and the metres of the network's unit.
        device: Where clips are made and states live.

    Source: the paper, for one frame of reference over clips; aigc-apps/VideoX-Fun for what the network is given.
    """

    def __init__(
        self,
        dit: WanFunDiT,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        picture_encoder: PictureEncoder,
        config: WanFunWorldConfig,
        device: torch.device,
    ) -> None:
        self._dit, self._vae, self._config, self._device = dit, vae, config, device
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
        """See `CountsEvaluations.evaluations`; with a prompt or without, the network runs as often."""
        spec = self._spec
        count = spec.evaluations_per_opening if opening else spec.evaluations_per_clip
        return torch.full((len(state.seed),), count)

    def _check_state(self, state: WorldState) -> None:
        if not self.recognises(state):
            raise ValueError("state: expected one of this world, got another world's; start an episode here")

    def _film(
        self, state: WorldState, c2w: Float[Tensor, "b f 4 4"], picture: Tensor | None
    ) -> UInt8[Tensor, "b f h w 3"]:
        """The frames at these poses of all frames; the first pose is that of the picture."""
        config, dit = self._config, self._dit
        batch, frames = c2w.shape[:2]
        steps = state.step if picture is None else state.step + 1
        shape = (dit.config.out_channels, 1 + (frames - 1) // FRAMES_PER_LATENT, config.height // 8, config.width // 8)
        noise = episode_noise(state.seed, steps, shape).to(self._device)
        known = torch.zeros(batch, dit.config.in_channels - shape[0], *shape[1:], device=self._device)
        if picture is not None:
            known[:, :, :1] = self._vae.encode(to_float(picture[:, None]).to(dit.dtype))
        image = dit.project_image(self._picture_encoder(picture, batch, self._device))
        camera = torch.cat([self._camera_tokens(row, lens) for row, lens in zip(c2w, state.intrinsics, strict=True)])
        texts = [dit.project_text(state.memory["text"])]
        if config.guidance_text != 1:
            texts.append(dit.project_text(self._negative_text.to(self._device)).expand_as(texts[0]))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            latents = torch.cat([x, known], dim=1)
            guided, *others = [dit(latents, t, text, image, camera).float() for text in texts]
            return others[0] + config.guidance_text * (guided - others[0]) if others else guided

        return self._decode(euler(velocity, noise, sampling_schedule(config.num_steps, config.shift, self._device)))

    def _camera_tokens(
        self, c2w: Float[Tensor, "f 4 4"], intrinsics: Float[Tensor, "4"]
    ) -> Float[Tensor, "1 f_latent hw d"]:
        """Of one row, whose maps are as large as eight films."""
        poses = se3.relative(c2w[:1], c2w)[None]
        poses[..., :3, 3] /= self._config.metres_per_unit
        maps = plucker_map(poses, intrinsics[None], self._config.height, self._config.width)
        tokens: Tensor = self._dit.control_adapter(maps)
        return tokens

    def _decode(self, latents: Float[Tensor, "b c f_z h_z w_z"]) -> UInt8[Tensor, "b f h w 3"]:
        """One latent frame at a time: a whole film of activations would not fit."""
        films, cache = [], None
        for latent in latents.split(1, dim=2):
            video, cache = self._vae.decode_chunk(latent.to(self._dit.dtype), cache)
            films.append(to_uint8(video.float()))
        return torch.cat(films, dim=1)

    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
        return self._text_encoder.encode(list(prompts)).to(self._device)

    @cached_property
    def _negative_text(self) -> Float[Tensor, "1 n d"]:
        return self._encode([self._config.negative_prompt])

    @cached_property
    def _fingerprint(self) -> int:
        return networks_fingerprint(self._spec, self._dit, self._vae)
