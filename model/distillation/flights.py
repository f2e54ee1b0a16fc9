"""Flights of the teacher, as training clips: an episode's context is a world's own clips, with their errors."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from model.dit.video_dit import VideoDiT
from model.training.latent_set import LatentBatches
from model.training.state import generator_for
from model.training.windows import LatentBatch
from model.whole_file import whole_file
from model.world import memory
from model.world.clip_sampler import sample_clip
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
        """Raises ValueError for a number out of range."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"flights.share: expected a number in [0, 1], got {self.share}")
        for name in ("num_flights", "num_clips", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"flights.{name}: expected at least 1, got {getattr(self, name)}")


def long_paths(c2w: Float[Tensor, "b f 4 4"], num_latents: int) -> Float[Tensor, "b num_latents 4 4"]:
    """Paths of `num_latents` poses: every row goes on along the next rows' paths, from where it is.

    Every path of `c2w` begins at the identity.
    """
    path, step = c2w, 0
    while path.shape[1] < num_latents:
        step += 1
        path = torch.cat([path, path[:, -1:] @ c2w.roll(step, dims=0)[:, 1:]], dim=1)
    return path[:, :num_latents]


@torch.inference_mode()
def fly_latents(
    dit: VideoDiT,
    start: LatentBatch,
    c2w: Float[Tensor, "b f 4 4"],
    null_text: Float[Tensor, "n d"],
    world: WorldConfig,
    seeds: Int[Tensor, " b"],
) -> Float[Tensor, "b c f h w"]:
    """Flies on from the first latent of every clip of `start` along `c2w`, as `CameraWorld` does, without decoding.

    Args:
        dit: The network that flies, in eval mode.
        start: Clips with their texts; only the first latent is used.
        c2w: Poses; `f` is 1 and a multiple of the world's `poses_per_clip`.
        null_text: The empty prompt's code.
        world: Its sampler, context and memory.
        seeds: Of the episodes; the noise is theirs.
    """
    num_new, most = world.poses_per_clip, world.context_latents
    capacity = max(most, world.memory_capacity) if world.memory_latents else most
    null = null_text.to(start.text).expand_as(start.text)
    latents, clip_shape = [start.latents[:, :, :1]], start.latents.shape[1:]
    window = memory.open_window(latents[0], c2w[:, :1], capacity)
    for first in range(1, c2w.shape[1], num_new):
        poses = c2w[:, first : first + num_new]
        num = min(first, most)
        num_memory = world.memory_latents if num == most else 0
        context, past = memory.choose_context(window, poses, start.intrinsics, num, num_memory)
        steps = torch.full_like(seeds, 1 + (first - 1) // num_new)  # the noise of step 0 is that of openings
        noise = episode_noise(seeds, steps, (clip_shape[0], num_new, *clip_shape[2:])).to(c2w.device)
        cameras = torch.cat([past, poses], dim=1)
        clip = sample_clip(dit, noise, context, cameras, start.intrinsics, start.text, null, world.sampler)
        window = memory.slide(window, clip, poses)
        latents.append(clip)
    return torch.cat(latents, dim=2).clone()


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

    A clip without camera lends no path, but it may lend its first picture.

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
            latents = fly_latents(dit, start, c2w, null_text, world, own_seeds)
            parts.append(start._replace(latents=latents, c2w=c2w))
        joined = LatentBatch(*(torch.cat(values) for values in zip(*parts, strict=True)))
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            save_file({name: value.cpu() for name, value in joined._asdict().items()}, partial)
    device = batches.latents.device
    return LatentBatch(**{name: value.to(device) for name, value in load_file(file).items()})


@dataclass(frozen=True)
class MixedBatches:
    """True clips, and in a share of the steps flights; a pure function of (step, micro), like both of them.

    Attributes:
        true: The clips.
        flights: All flights.
        share: Of the steps that are on flights; all processes take them at the same steps.
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
