"""Flights of the teacher as training clips: in an episode, too, the context is generated clips with their errors."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from model.dit.video_dit import VideoDiT
from model.training.latent_set import LatentBatches
from model.training.state import generator_for
from model.training.windows import LatentBatch
from model.whole_file import whole_file
from model.world import memory
from model.world.clip_sampler import SamplerConfig, sample_clip
from model.world.config import WorldConfig
from model.world.noise import episode_noise


@dataclass(kw_only=True)
class FlightsConfig:
    """How much of the training is on the teacher's own flights.

    Attributes:
        share: Share of the steps. 0: every step is on true clips.
        num_flights: Episodes that the teacher flies before a phase begins.
        num_clips: Length of each, in clips of the world.
        batch_size: Episodes that are flown at once.
    """

    share: float = 0.0
    num_flights: int = 96
    num_clips: int = 12
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"flights.share: expected a number in [0, 1], got {self.share}")
        for name in ("num_flights", "num_clips", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"flights.{name}: expected at least 1, got {getattr(self, name)}")


def long_paths(c2w: Float[Tensor, "b f 4 4"], num_latents: int) -> Float[Tensor, "b num_latents 4 4"]:
    """Paths of `num_latents` poses: every row continues along the next rows' paths, from its last pose.

    Every path of `c2w` begins at the identity.
    """
    path, step = c2w, 0
    while path.shape[1] < num_latents:
        step += 1
        path = torch.cat([path, path[:, -1:] @ c2w.roll(step, dims=0)[:, 1:]], dim=1)
    return path[:, :num_latents]


class ClipInputs(NamedTuple):
    """What the next clip of an episode is sampled from; `c2w` holds the poses of context and clip."""

    noise: Float[Tensor, "b c new h w"]
    context: Float[Tensor, "b c n h w"]
    c2w: Float[Tensor, "b n_plus_new 4 4"]
    context_noise: Float[Tensor, "b c n h w"]


@dataclass(frozen=True)
class Flight:
    """Episodes that continue from a first latent along their paths, as in `CameraWorld`, without decoding.

    Attributes:
        start: Clips with their texts; only the first latent is used.
        c2w: Poses `[b f 4 4]`; `f` is 1 plus a multiple of the world's `poses_per_clip`.
        null_text: The embedding of the empty prompt `[n d]`.
        world: Settings of context, memory and sampler.
        seeds: Of the episodes `[b]`; they determine the noise.
    """

    start: LatentBatch
    c2w: Tensor
    null_text: Tensor
    world: WorldConfig
    seeds: Tensor

    def open(self) -> TensorDict:
        """The memory window before the first clip."""
        world = self.world
        capacity = max(world.context_latents, world.memory_capacity) if world.memory_latents else world.context_latents
        return memory.open_window(self.start.latents[:, :, :1], self.c2w[:, :1], capacity)

    def inputs(self, window: TensorDict, number: int) -> ClipInputs:
        """What clip `number` (the first is 1) is sampled from, after the clips that `window` holds."""
        world, (_, c, _, h, w) = self.world, self.start.latents.shape
        num = min(1 + (number - 1) * world.poses_per_clip, world.context_latents)
        num_memory = world.memory_latents if num == world.context_latents else 0
        poses = self.poses(number)
        context, past = memory.choose_context(window, poses, self.start.intrinsics, num, num_memory)
        steps = torch.full_like(self.seeds, number)  # the noise of step 0 is that of openings
        noise = episode_noise(self.seeds, steps, (c, world.poses_per_clip, h, w)).to(self.c2w.device)
        # the steps of the context's noise are those of `CameraWorld`
        context_noise = episode_noise(self.seeds, -1 - steps, context.shape[1:]).to(self.c2w.device)
        return ClipInputs(noise, context, torch.cat([past, poses], dim=1), context_noise)

    def sample(self, dit: VideoDiT, inputs: ClipInputs, sampler: SamplerConfig) -> Float[Tensor, "b c new h w"]:
        """The clip that a network samples from these inputs."""
        text, intrinsics = self.start.text, self.start.intrinsics
        null = self.null_text.to(text).expand_as(text)
        # a given first frame stays as it is
        noised = inputs.context_noise if sampler.context_noise > 0 and inputs.context.shape[2] > 1 else None
        return sample_clip(dit, inputs.noise, inputs.context, inputs.c2w, intrinsics, text, null, sampler, noised)

    def poses(self, number: int) -> Float[Tensor, "b new 4 4"]:
        """Poses of clip `number`."""
        first = 1 + (number - 1) * self.world.poses_per_clip
        return self.c2w[:, first : first + self.world.poses_per_clip]

    def fly(self, dit: VideoDiT, num_clips: int) -> tuple[TensorDict, list[Float[Tensor, "b c new h w"]]]:
        """The memory window after `num_clips` clips of the world's own sampler, and the clips."""
        window, clips = self.open(), []
        for number in range(1, num_clips + 1):
            clips.append(self.sample(dit, self.inputs(window, number), self.world.sampler))
            window = memory.slide(window, clips[-1], self.poses(number))
        return window, clips


@torch.inference_mode()
def fly_latents(dit: VideoDiT, flight: Flight) -> Float[Tensor, "b c f h w"]:
    """The first latents and all clips along the paths, by a network in eval mode."""
    num_clips = (flight.c2w.shape[1] - 1) // flight.world.poses_per_clip
    return torch.cat([flight.start.latents[:, :, :1], *flight.fly(dit, num_clips)[1]], dim=2)


def flights_of(
    dit: VideoDiT,
    batches: LatentBatches,
    null_text: Float[Tensor, "n d"],
    world: WorldConfig,
    config: FlightsConfig,
    file: Path,
    seed: int,
) -> LatentBatch:
    """The teacher's flights from first pictures of the training clips; flown once, then read from `file`.

    Only clips with a camera are flown: each gives its first picture and its path.

    Raises:
        ValueError: No clip has a camera.
    """
    if not file.exists():
        rows = torch.nonzero(batches.labelled).flatten().cpu()
        if not len(rows):
            raise ValueError("flights.share: expected clips with cameras, whose paths are flown, got none; set it to 0")
        num_latents = 1 + config.num_clips * world.poses_per_clip
        draw = generator_for(torch.device("cpu"), seed)
        chosen = rows[torch.randint(len(rows), (config.num_flights,), generator=draw)]
        seeds = torch.randint(2**32, (config.num_flights,), generator=draw)
        parts: list[LatentBatch] = []
        pairs = zip(chosen.split(config.batch_size), seeds.split(config.batch_size), strict=True)
        for some, own_seeds in tqdm(list(pairs), desc="flying", unit="batch"):
            start = batches.take(some)
            c2w = long_paths(start.c2w, num_latents)
            latents = fly_latents(dit, Flight(start, c2w, null_text, world, own_seeds))
            parts.append(start._replace(latents=latents, c2w=c2w))
        joined = LatentBatch(*(torch.cat(values) for values in zip(*parts, strict=True)))
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            save_file({name: value.cpu() for name, value in joined._asdict().items()}, partial)
    device = batches.latents.device
    return LatentBatch(**{name: value.to(device) for name, value in load_file(file).items()})


@dataclass(frozen=True)
class MixedBatches:
    """Batches of true clips, or of flights in a share of the steps; a pure function of (step, micro).

    Attributes:
        true: The clips.
        flights: All flights.
        share: Of the steps that are on flights, which are the same for all processes.
        seed: Of the choice.
    """

    true: LatentBatches
    flights: LatentBatch
    share: float
    seed: int

    def __call__(self, step: int, micro: int = 0) -> LatentBatch:
        """Returns this process's batch."""
        coin = generator_for(torch.device("cpu"), self.seed, step, micro)
        if float(torch.rand((), generator=coin)) >= self.share:
            return self.true(step, micro)
        draw = generator_for(torch.device("cpu"), self.seed, step, micro, self.true.rank)
        rows = torch.randint(len(self.flights.latents), (self.true.batch_size,), generator=draw)
        return LatentBatch(*(value[rows.to(value.device)] for value in self.flights))
