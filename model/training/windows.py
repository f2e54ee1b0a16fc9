"""What one step of the DiT sees of each clip: a task (0, 1 or n context frames), a window, its cameras and its text."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiTConfig
from model.geometry import se3
from model.training import distributed

_MAX_PITCH = math.radians(15)
_JITTER_SHARE = 0.8


@dataclass(kw_only=True)
class WindowConfig:
    """Joint training: how often each task occurs, and what it shows of a clip.

    Attributes:
        context_shares: For each number of context latents the share of the steps: 0 is text-to-video, 1 image-to-video,
            more is extension.
        num_new: Latent frames that a window generates after its context (in text-to-video: after the first).
        single_latent_share: Share of the text-to-video steps that generate the first latent only (a still).
        single_latent_rows: Factor of the rows in those steps: they have the fewest tokens, and the cost of an update is
            fixed. The other steps use only the first 1 / this of the rows.
        text_dropout: Share of the texts that are replaced by the empty prompt.
        labelled_share: Share of the clips that keep their camera (see `LatentBatches`).
        context_noise: Largest diffusion time of an extension's context: each row's is drawn from 0 to this, and passed
            to the network. In an episode it continues its own clips, errors included (Chen et al. 2024, Diffusion
            Forcing; the paper's Table 5 advises 0).
        memory_latents: How many latents of the longest extension's context are memory frames, from anywhere earlier in
            the clip; the others are right before the new ones. Shorter contexts have none, as early in an episode.
        reference_jitter: Metres; how far an extension window's reference is moved from the clip's start.
        channel_weight_power: How much the loss follows the channels' effect on pixels (see `channel_weights`): 0 not at
            all, 1 fully.

    Raises:
        ValueError: A share is not in [0, 1] or all are 0, a size is out of range, or memory fills a whole context.
    """

    context_shares: dict[int, float] = field(default_factory=lambda: {0: 0.2, 1: 0.4, 4: 0.4})
    num_new: int = 4
    single_latent_share: float = 0.5
    single_latent_rows: int = 1
    text_dropout: float = 0.1
    labelled_share: float = 0.8
    context_noise: float = 0.0
    memory_latents: int = 0
    reference_jitter: float = 6.0
    channel_weight_power: float = 0.5

    def __post_init__(self) -> None:
        shares = self.context_shares
        if not (all(n >= 0 and 0 <= share <= 1 for n, share in shares.items()) and any(shares.values())):
            raise ValueError(
                f"context_shares: expected shares in [0, 1] of counts >= 0, not all 0, got {dict(shares)}; "
                "1 is every step"
            )
        for name in ("single_latent_share", "text_dropout", "context_noise", "labelled_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        for name in ("single_latent_rows", "num_new"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.reference_jitter >= 0:
            raise ValueError(f"reference_jitter: expected 0 metres or more, got {self.reference_jitter}")
        if self.memory_latents and not 0 < self.memory_latents < self.longest_context:
            raise ValueError(
                f"memory_latents: expected less than the longest context, {self.longest_context}, got "
                f"{self.memory_latents}"
            )

    @property
    def longest_context(self) -> int:
        """The most context latents that a step has."""
        return max(n for n, share in self.context_shares.items() if share > 0)

    @property
    def longest_window(self) -> int:
        """The most latent frames, context included, that a step takes of a clip."""
        is_still_only = self.single_latent_share == 1
        lengths = {n: n + self.num_new if n else 1 + self.num_new * (not is_still_only) for n in self.context_shares}
        return max(lengths[n] for n, share in self.context_shares.items() if share > 0)


class LatentBatch(NamedTuple):
    """Clips as latents. Poses are those of the latent frames, with the clip's first frame as the reference."""

    latents: Float[Tensor, "b c f h w"]
    c2w: Float[Tensor, "b f 4 4"]
    intrinsics: Float[Tensor, "b 4"]
    text: Float[Tensor, "b n d"]
    labelled: Bool[Tensor, "b"]


class TrainingWindow(NamedTuple):
    """Latents of clips, the first `num_context` of them context: memory frames, if any, and then consecutive ones.

    `cameras`: as `VideoDiT` takes them (`camera_inputs`); null cameras of rows that are not `labelled`.
    """

    latents: Float[Tensor, "b c f h w"]
    text: Float[Tensor, "b n d"]
    is_context: Bool[Tensor, "b f"]
    num_context: int
    cameras: dict[str, Tensor]
    labelled: Bool[Tensor, "b"]


class WindowSampler:
    """Draws the task, the windows and the texts of a step.

    Args:
        config: Settings.
        null_text: The empty prompt's embedding.
        dit: The network's configuration, which says which camera inputs it reads.

    Raises:
        ValueError: `reference_jitter` is set for a network whose poses are relative to each clip.
    """

    def __init__(
        self, config: WindowConfig, null_text: Float[Tensor, "n d"], dit: VideoDiTConfig | None = None
    ) -> None:
        self.config, self.null_text, self.dit = config, null_text, dit or VideoDiTConfig()
        if self.dit.camera_reference == "clip" and config.reference_jitter > 0:
            raise ValueError(
                f"reference_jitter: expected 0, it has no effect with camera_reference=clip, got "
                f"{config.reference_jitter}; set diffusion.reference_jitter=0"
            )

    def draw_window(self, batch: LatentBatch, generator: torch.Generator) -> TrainingWindow:
        """Chooses the task, and each clip's context, new frames and world frame.

        Raises:
            ValueError: The batch does not divide into `single_latent_rows`, or the clips are too short.
        """
        config = self.config
        num_context, num_new = self.choose_task(generator)
        if num_context + num_new > 1 and config.single_latent_rows > 1:
            rows, left_over = divmod(len(batch.latents), config.single_latent_rows)
            if left_over or not rows:
                raise ValueError(
                    f"batch: expected a multiple of single_latent_rows = {config.single_latent_rows} rows, got "
                    f"{len(batch.latents)}; draw batch_size * single_latent_rows of them"
                )
            batch = LatentBatch(*(value[:rows] for value in batch))
        start = choose_starts(batch, num_context, num_new, generator)
        frames = start[:, None] + torch.arange(num_context + num_new, device=start.device)
        if config.memory_latents and num_context == config.longest_context:
            frames = sample_memory_frames(frames, config.memory_latents, generator)
        window = take_frames(batch, frames)
        # Float64, which neither autocast nor TF32 rounds: cameras must not lose precision with the network.
        exact = torch.float32 if window.c2w.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        c2w, intrinsics = window.c2w.to(exact), window.intrinsics.to(exact)
        if config.reference_jitter > 0:
            # In an episode, the first window always has its reference at its first frame; later ones have it anywhere.
            moved = jitter_reference(c2w, config.reference_jitter, generator)
            c2w = torch.where((start > 0)[:, None, None, None], moved, c2w)
        b, _, f, height, width = window.latents.shape
        inputs = camera_inputs(self.dit, c2w, intrinsics, height, width, num_context)
        null = {"plucker": torch.zeros((), device=start.device), "projection": torch.eye(4, device=start.device)}
        cameras = {
            name: torch.where(window.labelled.view(-1, *[1] * (value.ndim - 1)), value.float(), null[name])
            for name, value in inputs.items()
        }
        is_context = torch.arange(f, device=start.device).expand(b, f) < num_context
        return TrainingWindow(window.latents, window.text, is_context, num_context, cameras, window.labelled)

    def choose_task(self, generator: torch.Generator) -> tuple[int, int]:
        """Returns the numbers of context and new frames of this step, the same for all rows and processes."""
        config = self.config
        task, still = torch.rand(2, generator=generator, device=generator.device).tolist()
        counts = sorted(config.context_shares)
        cumulative = torch.tensor([config.context_shares[n] for n in counts], dtype=torch.float64).cumsum(0)
        chosen = int(torch.searchsorted(cumulative, task * float(cumulative[-1]), right=True))
        num_context = counts[min(chosen, len(counts) - 1)]
        num_new = config.num_new
        if num_context == 0:
            num_new = 1 if still < config.single_latent_share else 1 + config.num_new
        code = distributed.broadcast_int(num_context * 1000 + num_new, generator.device)
        return divmod(code, 1000)

    def draw_context_times(self, window: TrainingWindow, generator: torch.Generator) -> Float[Tensor, "b 1"]:
        """The diffusion time of each row's context: 0, or for extensions up to `context_noise`."""
        b, device = len(window.latents), window.latents.device
        if self.config.context_noise > 0 and window.num_context > 1:
            return self.config.context_noise * torch.rand(b, 1, generator=generator, device=device)
        return torch.zeros(b, 1, device=device)

    def drop_text(self, text: Float[Tensor, "b n d"], generator: torch.Generator) -> Float[Tensor, "b n d"]:
        """Replaces a share of the texts by the empty prompt's embedding."""
        return drop_text(text, self.null_text, self.config.text_dropout, generator)


def drop_text(
    text: Float[Tensor, "b n d"], null_text: Float[Tensor, "n d"], share: float, generator: torch.Generator
) -> Float[Tensor, "b n d"]:
    """Replaces a share of the texts by the empty prompt's embedding."""
    is_dropped = torch.rand(len(text), generator=generator, device=text.device) < share
    return torch.where(is_dropped[:, None, None], null_text.to(text), text)


def task_name(num_context: int) -> str:
    """t2v, i2v or ext, by the number of context latents."""
    return {0: "t2v", 1: "i2v"}.get(num_context, "ext")


def choose_starts(batch: LatentBatch, num_context: int, num_new: int, generator: torch.Generator) -> Int[Tensor, "b"]:
    """Returns each row's first frame: anywhere for two or more frames of context, else the clip's own.

    Only a clip's first latent stands for a single frame, so a window that begins an episode begins there.

    Raises:
        ValueError: The clips are too short.
    """
    length, (b, _, f, _, _) = num_context + num_new, batch.latents.shape
    if length > f:
        raise ValueError(
            f"context_shares, num_new: expected windows of at most {f} latent frames (the clips'), got "
            f"{num_context} + {num_new}; render longer clips"
        )
    last = f - length if num_context > 1 else 0
    return torch.randint(last + 1, (b,), generator=generator, device=generator.device)


def sample_memory_frames(frames: Int[Tensor, "b f"], num_memory: int, generator: torch.Generator) -> Int[Tensor, "b f"]:
    """Replaces each row's first `num_memory` frames by as many different ones, in order, from before the others.

    In an episode they are chosen by what they show (`model.world.memory`); here they are random, so that the network
    learns to find what is useful in its context.
    """
    limits = frames[:, num_memory]
    chances = torch.rand(len(frames), int(limits.max()), generator=generator, device=frames.device)
    is_later = torch.arange(chances.shape[1], device=frames.device) >= limits[:, None]
    chosen = chances.masked_fill(is_later, -1.0).topk(num_memory, dim=1).indices
    return torch.cat([chosen.sort(dim=1).values, frames[:, num_memory:]], dim=1)


def take_frames(batch: LatentBatch, frames: Int[Tensor, "b f"]) -> LatentBatch:
    """Returns these frames of every clip; poses keep their reference."""
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    latents = batch.latents.transpose(1, 2)[rows, frames].transpose(1, 2).contiguous()
    return batch._replace(latents=latents, c2w=batch.c2w[rows, frames])


def jitter_reference(
    c2w: Float[Tensor, "b f 4 4"], max_distance: float, generator: torch.Generator
) -> Float[Tensor, "b f 4 4"]:
    """Returns the same camera paths in another world frame: any yaw, little pitch, metres away; one in five is unmoved.

    Source: ours, because in a long episode the reference is far away, and training clips are too short for that.
    """
    b, device = len(c2w), c2w.device
    u = torch.rand(b, 6, generator=generator, device=device, dtype=c2w.dtype) * 2 - 1
    zero = u.new_zeros(b)
    yaw = se3.exp(torch.stack((zero, zero, zero, zero, u[:, 0] * math.pi, zero), -1))
    pitch = se3.exp(torch.stack((zero, zero, zero, u[:, 1] * _MAX_PITCH, zero, zero), -1))
    shift = torch.stack((u[:, 2], 0.15 * u[:, 3], u[:, 4]), -1) * max_distance  # little in height: cameras fly level
    motion = se3.from_rotation_translation((yaw @ pitch)[:, :3, :3], shift)
    moved = motion[:, None] @ c2w
    return torch.where((u[:, 5] < 2 * _JITTER_SHARE - 1)[:, None, None, None], moved, c2w)
