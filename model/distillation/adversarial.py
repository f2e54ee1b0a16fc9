"""Adversarial distillation: a student learns to make flights whose clips look real to a discriminator.

Source: Lin et al. 2025, APT (arXiv 2501.08316) and AAPT (2506.09350); one score for a window: AAD-1 (2606.03972).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from model.diffusion.rectified_flow import interpolate, velocity_loss
from model.distillation.discriminator import Discriminator
from model.distillation.flights import ClipInputs, Flight
from model.dit.video_dit import VideoDiT
from model.training import distributed
from model.training.loop import TrainingDiverged
from model.training.windows import LatentBatch, drop_text
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig

LOSSES = ("relativistic", "non_saturating")


@dataclass(kw_only=True)
class AdversarialConfig:
    """Losses of the two networks.

    Attributes:
        loss: `relativistic` (AAPT): a true clip scores higher than its fake; `non_saturating` (APT): each clip by
            itself.
        num_clips: The fakes are clips 1 .. `num_clips` of the student's flights; the training clips are as long.
        max_t: The discriminator sees clips noised to a time in [0, `max_t`]. Over all of [0, 1] it stays at chance
            level here: this network looks at details at small times only.
        r1_weight: Weight of the approximated R1 penalty: true clips that are changed a little should keep their score.
            0 leaves it out.
        r2_weight: The same for fakes.
        sigma: Standard deviation of that change.
        regression_weight: Weight of the squared distance to the clip that the teacher makes from the same noise and
            context.
        channel_weight_power: See `channel_weights`; for that distance.
        text_dropout: Share of the texts that are replaced by the empty prompt.
        score_limit: Training ends if the mean absolute score is above it.
        depths: See `Discriminator`.

    Raises:
        ValueError: A setting is out of range.
    """

    loss: str = "relativistic"
    num_clips: int = 3
    max_t: float = 0.25
    r1_weight: float = 20.0
    r2_weight: float = 20.0
    sigma: float = 0.05
    regression_weight: float = 0.3
    channel_weight_power: float = 0.5
    text_dropout: float = 0.1
    score_limit: float = 100.0
    depths: list[int] | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"adversarial.loss: expected one of {LOSSES}, got {self.loss!r}")
        if self.num_clips < 1:
            raise ValueError(f"adversarial.num_clips: expected at least 1, got {self.num_clips}")
        for name in ("max_t", "text_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"adversarial.{name}: expected a number in [0, 1], got {getattr(self, name)}")
        for name in ("r1_weight", "r2_weight", "regression_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"adversarial.{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("sigma", "score_limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"adversarial.{name}: expected a positive number, got {getattr(self, name)}")


def discriminator_loss(true: Float[Tensor, " b"], fake: Float[Tensor, " b"], loss: str) -> Float[Tensor, ""]:
    """Falls when true clips score high and fakes low, or (`relativistic`) when each true one beats its fake."""
    if loss == "relativistic":
        return F.softplus(fake - true).mean()
    return (F.softplus(-true) + F.softplus(fake)).mean()


def generator_loss(true: Float[Tensor, " b"], fake: Float[Tensor, " b"], loss: str) -> Float[Tensor, ""]:
    """Falls when fakes score high, or (`relativistic`) higher than their true clips."""
    return F.softplus(true - fake if loss == "relativistic" else -fake).mean()


def approximated_penalty(score: Float[Tensor, " b"], moved: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean squared change of the score of samples that are moved a little: R1 of true ones, R2 of fakes.

    To first order it is the squared gradient norm times the variance of the move, without second derivatives, which
    fused attention does not have. Source: APT.
    """
    return (score - moved).square().mean()


class TrueClips(NamedTuple):
    """True clips, and the other inputs of the discriminator, which a true clip and its fake share."""

    first: Float[Tensor, "b c 1 h w"]
    clip: Float[Tensor, "b c new h w"]
    c2w: Float[Tensor, "b one_plus_new 4 4"]
    t: Float[Tensor, " b"]
    noise: Float[Tensor, "b c new h w"]  # of time t, for a true clip and its fake alike
    moves: Float[Tensor, "two b c new h w"]  # of R1 and R2


class AdversarialPair(nn.Module):
    """Generator and discriminator; both losses in one forward, as data parallel training needs.

    The generator's loss does not reach the discriminator, nor the other way round, so one backward pass serves both.
    """

    def __init__(self, generator: VideoDiT, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(
        self,
        flight: Flight,
        inputs: ClipInputs,
        true_clips: TrueClips,
        target: Float[Tensor, "b c new h w"] | None,
        config: AdversarialConfig,
        channel_weights: Float[Tensor, " c"] | None = None,
        train_generator: bool = True,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor], Float[Tensor, ""]]:
        """The sum of both networks' losses, its parts, and the mean absolute score.

        Args:
            flight: Its next clip is the fake.
            inputs: What the fake is sampled from.
            true_clips: True clips, at the same place of the same paths.
            target: The teacher's clips; None: no regression.
            config: Weights.
            channel_weights: Of the regression, as in `velocity_loss`.
            train_generator: False: the discriminator's loss only.
        """
        with torch.set_grad_enabled(train_generator and torch.is_grad_enabled()):
            fake = flight.sample(self.generator, inputs, flight.world.sampler)
        true_score, fake_score, penalties = self._scores(flight.start, fake.detach(), true_clips, config)
        loss = part = discriminator_loss(true_score, fake_score, config.loss)
        metrics = {"loss_discriminator": part, "score_true": true_score.mean(), "score_fake": fake_score.mean()}
        metrics["share_right"] = (true_score > fake_score).float().mean()
        for name, penalty in penalties.items():
            metrics[name] = penalty
            loss = loss + getattr(config, f"{name}_weight") * penalty
        if train_generator:
            frozen = {name: weights.detach() for name, weights in self.discriminator.named_parameters()}
            score = functional_call(self.discriminator, frozen, _shown(flight.start, fake, true_clips))
            metrics["loss_generator"] = generator_loss(true_score.detach(), score, config.loss)
            loss = loss + metrics["loss_generator"]
            if target is not None:
                metrics["regression"] = velocity_loss(fake, target, channel_weights).mean()
                loss = loss + config.regression_weight * metrics["regression"]
        size = torch.cat([true_score, fake_score]).detach().abs().mean()
        return loss, {name: value.detach() for name, value in metrics.items()}, size

    def _scores(
        self, start: LatentBatch, fake: Tensor, true_clips: TrueClips, config: AdversarialConfig
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Scores of true clips and fakes, and the penalties that have a weight; all in one call of the network."""
        named = {"true": true_clips.clip, "fake": fake}
        for name, kind, move in zip(("r1", "r2"), ("true", "fake"), true_clips.moves, strict=True):
            if getattr(config, f"{name}_weight"):
                named[name] = named[kind] + config.sigma * move
        shown = [_shown(start, clip, true_clips) for clip in named.values()]
        scores = self.discriminator(*(torch.cat(values) for values in zip(*shown, strict=True))).chunk(len(named))
        score = dict(zip(named, scores, strict=True))
        penalties = {
            name: approximated_penalty(score[kind], score[name])
            for name, kind in (("r1", "true"), ("r2", "fake"))
            if name in score
        }
        return score["true"], score["fake"], penalties


def _shown(start: LatentBatch, clip: Tensor, true_clips: TrueClips) -> tuple[Tensor, ...]:
    """The discriminator's arguments for a clip, true or fake."""
    noised = interpolate(clip, true_clips.noise, true_clips.t)
    return true_clips.first, noised, true_clips.t, start.text, true_clips.c2w, start.intrinsics


class AdversarialStep:
    """Step function of `fit` for an `AdversarialPair`.

    A true clip `k` of 1 .. `num_clips`, the same `k` on all processes, is compared with clip `k` of the student's
    flight from the true first latent along the same path. The flight's earlier clips are generated without gradient.
    The discriminator never sees them: it judges what a person sees, [first latent | clip].

    Args:
        config: Losses and their weights.
        world: The student's.
        null_text: The embedding of the empty prompt.
        teacher: Its network, frozen and in eval mode, and its sampler; None: no regression.
        channel_weights: Of the regression, as in `velocity_loss`.
        train_generator: False: only the discriminator learns.
    """

    def __init__(
        self,
        config: AdversarialConfig,
        world: WorldConfig,
        null_text: Float[Tensor, "n d"],
        *,
        teacher: tuple[VideoDiT, SamplerConfig] | None = None,
        channel_weights: Float[Tensor, " c"] | None = None,
        train_generator: bool = True,
    ) -> None:
        self.config, self.world, self.null_text = config, world, null_text
        self.teacher = teacher if train_generator and config.regression_weight else None
        self.channel_weights, self.train_generator = channel_weights, train_generator

    def __call__(
        self, module: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the sum of both losses, and its parts with the scores.

        Raises:
            TrainingDiverged: The scores are larger than `score_limit`.
            ValueError: The clips are too short.
        """
        pair = module.module if isinstance(module, DistributedDataParallel) else module
        assert isinstance(pair, AdversarialPair)
        config, number = self.config, self._choose_number(batch, generator)
        batch = batch._replace(text=drop_text(batch.text, self.null_text, config.text_dropout, generator))
        seeds = torch.randint(2**32, (len(batch.latents),), generator=generator, device=generator.device)
        flight = Flight(batch, batch.c2w, self.null_text, self.world, seeds)
        with torch.no_grad():
            window, _ = flight.fly(pair.generator, number - 1)
            inputs = flight.inputs(window, number)
            target = None if self.teacher is None else flight.sample(self.teacher[0], inputs, self.teacher[1])
        true_clips = self._true_clips(flight, number, generator)
        loss, metrics, size = module(
            flight, inputs, true_clips, target, config, self.channel_weights, self.train_generator
        )
        size = float(distributed.all_reduce_mean(size))
        if size > config.score_limit:
            raise TrainingDiverged(
                f"adversarial.score_limit: expected scores of mean size {config.score_limit:g} or less, got {size:g}; "
                "lower the learning rates, raise r1_weight and r2_weight, or raise the limit"
            )
        return loss, {**metrics, "clip": float(number)}

    def _choose_number(self, batch: LatentBatch, generator: torch.Generator) -> int:
        num_latents = 1 + self.config.num_clips * self.world.poses_per_clip
        if batch.latents.shape[2] < num_latents:
            raise ValueError(
                f"adversarial.num_clips: expected clips of {num_latents} latent frames or more, got "
                f"{batch.latents.shape[2]}; lower it or give longer clips"
            )
        drawn = torch.randint(self.config.num_clips, (), generator=generator, device=generator.device)
        return 1 + distributed.broadcast_int(int(drawn), generator.device)

    def _true_clips(self, flight: Flight, number: int, generator: torch.Generator) -> TrueClips:
        """The true clip `number`, and how it and its fake are noised and moved."""
        num_new, latents = self.world.poses_per_clip, flight.start.latents
        first = 1 + (number - 1) * num_new
        clip = latents[:, :, first : first + num_new]
        t = self.config.max_t * torch.rand(len(clip), generator=generator, device=clip.device)
        noise, *moves = (torch.empty_like(clip).normal_(generator=generator) for _ in range(3))
        c2w = torch.cat([flight.c2w[:, :1], flight.poses(number)], dim=1)
        return TrueClips(latents[:, :, :1], clip, c2w, t, noise, torch.stack(moves))
