"""A world that continues chunk by chunk from stored keys and values: minWM's students."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from tensordict import TensorDict
from torch import Tensor

from model.data.video_io import to_uint8
from model.dit.attention import KeyValue
from model.dit.causal_dit import CausalDiT
from model.geometry.camera import projection_matrix
from model.text.encoder import TextEncoder
from model.vae.video_vae import VideoVAE
from model.world.arguments import check_intrinsics, check_prompts, check_seeds, check_segment, opening_state
from model.world.networks import networks_fingerprint
from model.world.noise import episode_noise, noise_seed
from model.world.protocol import WorldSpec, WorldState


@dataclass(frozen=True, kw_only=True)
class CausalSampler:
    """How a chunk is made.

    Attributes:
        times: Diffusion times of the evaluations, falling from 1; between two of them the prediction is noised again.
        window: Latent frames that attention reaches, those of the chunk included.
        metres_per_unit: Metres in the network's unit of length.
    """

    times: tuple[float, ...]
    window: int
    metres_per_unit: float = 1.0


class CausalWorld:
    """A `WorldModel` made of a causal DiT, a causal VAE and a text encoder.

    An episode opens with a chunk whose camera stands still, and only its last frame is shown, because the network
    cannot make a chunk of one frame. The intrinsics are always those of its training, and no first frame can be given.

    A state's memory holds `keys` and `values` `[b, blocks, frames, tokens, width]` and the poses `c2w` of the latest
    latent frames, zeros before the first, `text` `[b, n, d]`, the VAE's cache `decoder`, and `fingerprint` `[b]`, of
    sizes and weights.

    Args:
        dit: In eval mode; its device and dtype are the world's.
        vae: Decodes latents; on the same device.
        text_encoder: Embeds prompts.
        spec: Sizes; the numbers of evaluations are filled in.
        sampler: How a chunk is made.
        default_prompts: One is drawn by the seed for an episode without prompt.

    Raises:
        ValueError: if sizes do not fit the networks.
    """

    start_arguments = frozenset({"prompts"})

    def __init__(
        self,
        dit: CausalDiT,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        spec: WorldSpec,
        *,
        sampler: CausalSampler,
        default_prompts: Sequence[str] = ("",),
    ) -> None:
        _check_fit(dit, vae, text_encoder, spec)
        self._dit, self._vae, self._text_encoder = dit, vae, text_encoder
        self._sampler, self._default_prompts = sampler, tuple(default_prompts)
        evaluations = len(sampler.times) + 1  # one more makes the keys and values of the finished chunk
        self._spec = replace(spec, evaluations_per_clip=evaluations, evaluations_per_opening=evaluations)
        self._stored = sampler.window - spec.poses_per_clip  # latent frames
        self._device = next(dit.parameters()).device

    @property
    def spec(self) -> WorldSpec:
        return self._spec

    def default_prompt(self, seed: int) -> str:
        """See `NamesItsPrompt.default_prompt`."""
        return self._default_prompts[noise_seed(seed, -1) % len(self._default_prompts)]

    @torch.no_grad()
    def start(
        self,
        seeds: Sequence[int] | Tensor,
        prompts: Sequence[str] | None = None,
        images: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> tuple[WorldState, UInt8[Tensor, "b 1 h w 3"]]:
        """See `WorldModel.start`."""
        values = check_seeds(seeds)
        batch = len(values)
        check_prompts(prompts, batch)
        for name, value in (("images", images), ("intrinsics", intrinsics)):
            if value is not None:
                raise ValueError(f"{name}: expected None, this world has no use for them; leave them out")
        text = self._text_encoder.encode(list(prompts or map(self.default_prompt, values)))
        nothing = torch.zeros((), dtype=self._dit.dtype, device=self._device)
        memory = {
            "keys": nothing.expand(batch, *self._stored_shape),  # takes no memory
            "values": nothing.expand(batch, *self._stored_shape),
            "c2w": torch.eye(4).repeat(batch, self._stored, 1, 1),
            "text": text,
            "fingerprint": torch.full((batch,), self._fingerprint),
        }
        state = opening_state(values, check_intrinsics(None, self._spec, batch), memory, self._device)
        poses = state.c2w[:, None].repeat(1, self._spec.poses_per_clip, 1, 1)
        opened, frames = self._fly(state, poses, num_stored=torch.zeros_like(state.step), step=state.step, cache=None)
        return opened, frames[:, -1:].clone()

    @torch.no_grad()
    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, UInt8[Tensor, "b frames h w 3"]]:
        """See `WorldModel.extend`."""
        self._check_state(state)
        c2w = check_segment(state, c2w, self._spec)
        num_stored = ((state.step + 1) * self._spec.poses_per_clip).clamp(max=self._stored)
        cache = dict(state.memory["decoder"].items())
        return self._fly(state, c2w, num_stored=num_stored, step=state.step + 1, cache=cache)

    def with_prompts(self, state: WorldState, prompts: Sequence[str]) -> WorldState:
        """See `ChangesPrompts.with_prompts`; the stored keys and values of past chunks keep the earlier prompts."""
        self._check_state(state)
        check_prompts(prompts, len(state.seed))
        text = self._text_encoder.encode(list(prompts)).to(self._device)  # before the copy, which is large
        changed = state.clone()
        changed.memory["text"] = text
        return changed

    def recognises(self, state: WorldState) -> bool:
        """See `RecognisesStates.recognises`."""
        memory = state.memory
        if not {"keys", "values", "c2w", "text", "decoder", "fingerprint"} <= set(memory.keys()):
            return False
        has_shapes = (
            memory["keys"].shape[1:] == self._stored_shape and memory["text"].shape[-1] == self._text_encoder.dim
        )
        return has_shapes and bool((memory["fingerprint"] == self._fingerprint).all())

    def _check_state(self, state: WorldState) -> None:
        if not self.recognises(state):
            raise ValueError("state: expected one of this world, got another world's; start an episode here")

    @cached_property
    def _fingerprint(self) -> int:
        return networks_fingerprint(self._spec, self._dit, self._vae)

    @property
    def _latent_shape(self) -> tuple[int, int, int, int]:
        stride = self._vae.spatial_stride
        channels, frames = self._dit.config.in_channels, self._spec.poses_per_clip
        return channels, frames, self._spec.height // stride, self._spec.width // stride

    @property
    def _stored_shape(self) -> torch.Size:
        """Shape of an episode's keys, and of its values."""
        height, width = self._latent_shape[-2:]
        _, ph, pw = self._dit.patch_size
        tokens = (height // ph) * (width // pw)
        return torch.Size((self._dit.config.num_blocks, self._stored, tokens, self._dit.config.width))

    def _fly(
        self, state: WorldState, c2w: Tensor, *, num_stored: Tensor, step: Tensor, cache: dict[str, Tensor] | None
    ) -> tuple[WorldState, UInt8[Tensor, "b f h w 3"]]:
        """The state after a chunk along these poses, and its frames."""
        memory = state.memory
        latents, keys, values = self._generate(state, c2w, num_stored, step)
        frames = []
        for latent in latents.split(1, dim=2):  # one at a time: the VAE's activations take the most memory
            video, cache = self._vae.decode_chunk(latent, cache)
            frames.append(to_uint8(video))
        after = {
            "keys": keys,
            "values": values,
            "c2w": torch.cat([memory["c2w"], c2w], dim=1)[:, -self._stored :].clone(),
            "text": memory["text"].clone(),
            "fingerprint": memory["fingerprint"].clone(),
            "decoder": TensorDict(dict(cache or {}), batch_size=state.batch_size).clone(),
        }
        extended = WorldState(
            c2w=c2w[:, -1].clone(),
            intrinsics=state.intrinsics.clone(),
            seed=state.seed.clone(),
            step=step.clone(),
            memory=TensorDict(after, batch_size=state.batch_size),
            batch_size=state.batch_size,
        )
        return extended, torch.cat(frames, dim=1)

    def _generate(
        self, state: WorldState, c2w: Tensor, num_stored: Tensor, step: Tensor
    ) -> tuple[Float[Tensor, "b c f h w"], Float[Tensor, "b n_blocks f_z s d"], Float[Tensor, "b n_blocks f_z s d"]]:
        """The chunk's latents, and keys and values with its own; rows with equally many stored frames run together."""
        noise = episode_noise(state.seed, step, (len(self._sampler.times), *self._latent_shape)).to(self._device)
        latents, memory = torch.empty_like(noise[:, 0]), state.memory
        shape = (len(latents), *self._stored_shape)
        keys, values = (torch.empty(shape, dtype=self._dit.dtype, device=self._device) for _ in range(2))
        for count in sorted(set(num_stored.tolist())):
            is_here = num_stored == count
            rows = slice(None) if bool(is_here.all()) else is_here  # a slice copies nothing
            latents[rows], own = self._chunk(state[rows], c2w[rows], noise[rows], count)
            for index, (key, value) in enumerate(own):
                keys[rows, index] = self._slide(memory["keys"][rows, index], key)
                values[rows, index] = self._slide(memory["values"][rows, index], value)
        return latents, keys, values

    def _chunk(
        self, state: WorldState, c2w: Tensor, noise: Float[Tensor, "b steps c f h w"], count: int
    ) -> tuple[Float[Tensor, "b c f h w"], list[KeyValue]]:
        """The latents of a chunk after `count` stored frames, and its keys and values, to be stored."""
        memory, times = state.memory, self._sampler.times
        poses = torch.cat([memory["c2w"][:, self._stored - count :], c2w], dim=1)
        projection = projection_matrix(poses, state.intrinsics, self._sampler.metres_per_unit)
        text_keys = self._dit.encode_text(memory["text"])
        past = [self._latest(memory, index, count) for index in range(self._dit.config.num_blocks)] if count else []

        def predict(x: Tensor, t: float) -> tuple[Tensor, list[KeyValue]]:
            velocity, own = self._dit(x, x.new_full((len(x),), t), text_keys, projection, past)
            return x - t * velocity.float(), own

        clean = noise[:, 0]
        for index, t in enumerate(times):
            clean = predict((1 - t) * clean + t * noise[:, index], t)[0]
        return clean, predict(clean, 0.0)[1]

    def _latest(self, memory: TensorDict, index: int, count: int) -> KeyValue:
        """Keys and values of the latest stored frames of a block, as views."""
        key, value = (
            memory[name][:, index, self._stored - count :].flatten(1, 2).unflatten(-1, (self._dit.config.num_heads, -1))
            for name in ("keys", "values")
        )
        return key, value

    def _slide(self, stored: Float[Tensor, "b f s d"], own: Float[Tensor, "b n k c"]) -> Float[Tensor, "b f s d"]:
        """The stored frames without the oldest, then the chunk's."""
        chunk = own.flatten(2).unflatten(1, (self._spec.poses_per_clip, -1))
        return torch.cat([stored, chunk], dim=1)[:, -self._stored :]


def _check_fit(dit: CausalDiT, vae: VideoVAE, text_encoder: TextEncoder, spec: WorldSpec) -> None:
    _, ph, pw = dit.patch_size
    unit_h, unit_w = vae.spatial_stride * ph, vae.spatial_stride * pw
    if spec.height % unit_h or spec.width % unit_w:
        raise ValueError(
            f"height, width: expected multiples of {unit_h} and {unit_w}, got {spec.height} and {spec.width}"
        )
    if dit.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"vae: expected {dit.config.in_channels} latent channels, got {vae.config.latent_channels}; use Wan 2.1's"
        )
    if dit.config.text_dim != text_encoder.dim:
        raise ValueError(f"text_encoder: expected width {dit.config.text_dim} like the DiT's, got {text_encoder.dim}")
