"""A discriminator learns what is true, a generator learns from it, and neither's loss reaches the other."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.distillation.adversarial import (
    AdversarialConfig,
    AdversarialPair,
    AdversarialStep,
    approximated_penalty,
    discriminator_loss,
    generator_loss,
)
from model.distillation.discriminator import Discriminator, default_depths
from model.distillation.flights import Flight, fly_latents
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.loop import FitConfig, TrainingDiverged, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.training.windows import LatentBatch
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig

WORLD = WorldConfig(height=16, width=32, context_latents=4, memory_latents=2, sampler=SamplerConfig(num_steps=1))
NULL_TEXT = torch.zeros(3, 8)


def dit(num_blocks: int = 2) -> VideoDiT:
    torch.manual_seed(0)
    sizes = {"in_channels": 4, "out_channels": 4, "width": 24, "num_heads": 2, "num_blocks": num_blocks}
    network = VideoDiT(VideoDiTConfig(**sizes, ffn_dim=32, text_dim=8, freq_dim=8, camera_attention=True))
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.1)
    return network


def clips(batch: int = 6, num_latents: int = 9) -> LatentBatch:
    """True clips that no untrained network makes: every frame after the first has the mean 1.5."""
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, num_latents, 2, 4, generator=draw)
    latents[:, :, 1:] = 0.3 * latents[:, :, 1:] + 1.5
    return LatentBatch(
        latents,
        torch.eye(4).repeat(batch, num_latents, 1, 1),
        torch.tensor([0.65, 1.0, 0.5, 0.5]).expand(batch, 4).clone(),
        torch.randn(batch, 3, 8, generator=draw),
        torch.ones(batch, dtype=torch.bool),
    )


def settings(**changes: Any) -> AdversarialConfig:
    return AdversarialConfig(**{"num_clips": 2, "text_dropout": 0.0, **changes})


def pair() -> AdversarialPair:
    generator = dit()
    return AdversarialPair(generator, Discriminator(generator))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_losses_have_their_known_values() -> None:
    true, fake = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    log = [math.log1p(math.exp(x)) for x in (-1.0, 2.0)]
    assert float(discriminator_loss(true, fake, "relativistic")) == pytest.approx(sum(log) / 2)
    assert float(generator_loss(true, fake, "relativistic")) == pytest.approx(
        (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-2.0))) / 2
    )
    # two cross-entropies: of "true" for the true ones, and of "fake" for the fakes
    cross = nn.functional.binary_cross_entropy_with_logits
    wanted = cross(true, torch.ones(2)) + cross(fake, torch.zeros(2))
    torch.testing.assert_close(discriminator_loss(true, fake, "non_saturating"), wanted)
    torch.testing.assert_close(generator_loss(true, fake, "non_saturating"), cross(fake, torch.ones(2)))


def test_the_relativistic_losses_do_not_see_a_shift_of_all_scores() -> None:
    true, fake = torch.randn(2, 5, generator=generator())
    for loss in (discriminator_loss, generator_loss):
        torch.testing.assert_close(loss(true + 7, fake + 7, "relativistic"), loss(true, fake, "relativistic"))


def test_the_penalty_is_the_squared_gradient_of_a_linear_score() -> None:
    gradient, sigma = torch.tensor([3.0, -4.0]), 0.05
    x, move = torch.randn(2, 20_000, 2, generator=generator())
    penalty = approximated_penalty(x @ gradient, (x + sigma * move) @ gradient)
    assert float(penalty) == pytest.approx(25 * sigma**2, rel=0.05)


def test_hidden_states_are_those_after_the_named_blocks_and_hooks_are_gone_afterwards() -> None:
    network = dit(num_blocks=3)
    judge = Discriminator(network, [3, 1])
    seen = {}
    for number, block in enumerate(judge.dit.blocks, start=1):
        block.register_forward_hook(lambda module, given, tokens, number=number: seen.update({number: tokens}))
    latents = torch.randn(2, 4, 5, 2, 4)
    with judge.hidden_states() as hidden:
        judge.dit(latents, torch.zeros(2), torch.zeros(2, 3, 8))
    assert judge.depths == [1, 3] and len(hidden) == 2
    assert hidden[0] is seen[1] and hidden[1] is seen[3] and hidden[1].shape == (2, 5, 2, 24)
    judge.dit(latents, torch.zeros(2), torch.zeros(2, 3, 8))
    assert len(hidden) == 2


@pytest.mark.parametrize("depths", [[], [1], [0, 2], [2, 3], [2, 2]])
def test_depths_must_be_the_networks_and_hold_the_last(depths: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^depths: expected different blocks, 1 to 2, with the last among them"):
        Discriminator(dit(), depths)


def test_default_depths_are_those_of_the_paper_for_its_network() -> None:
    assert default_depths(36) == [16, 26, 36] and default_depths(1) == [1] and default_depths(10)[-1] == 10


def judged_pair(judge: Discriminator) -> tuple[Tensor, Tensor, LatentBatch]:
    batch = clips(2, 5)
    return batch.latents[:, :, :1], batch.latents[:, :, 1:], batch


def test_a_score_depends_on_every_frame_and_on_the_cameras() -> None:
    judge = Discriminator(dit())
    first, clip, batch = judged_pair(judge)
    clip, first = clip.requires_grad_(True), first.requires_grad_(True)
    score = judge(first, clip, torch.full((2,), 0.1), batch.text, batch.c2w, batch.intrinsics)
    assert score.shape == (2,)
    of_clip, of_first = torch.autograd.grad(score.sum(), (clip, first))
    assert bool((of_clip.abs().sum((1, 3, 4)) > 0).all()) and bool((of_first.abs().sum((1, 3, 4)) > 0).all())
    moved = batch.c2w.clone()
    moved[:, 1:, :3, 3] = 0.5
    other = judge(first, clip, torch.full((2,), 0.1), batch.text, moved, batch.intrinsics)
    assert not torch.allclose(other, score)


def test_each_loss_moves_its_own_network_only() -> None:
    """The gradients of both losses together are those of each alone."""
    both, alone = pair(), pair()
    alone.load_state_dict(both.state_dict())
    step = AdversarialStep(settings(), WORLD, NULL_TEXT)
    loss, metrics = step(both, clips(), generator())
    loss.backward()
    discriminating = AdversarialStep(settings(), WORLD, NULL_TEXT, train_generator=False)
    own, parts = discriminating(alone, clips(), generator())
    own.backward()
    assert all(p.grad is None for p in alone.generator.parameters())
    for mine, theirs in zip(both.discriminator.parameters(), alone.discriminator.parameters(), strict=True):
        if mine.requires_grad:
            torch.testing.assert_close(mine.grad, theirs.grad)
    assert float(metrics["loss_discriminator"]) == float(parts["loss_discriminator"])
    assert "loss_generator" not in parts and set(parts) < set(metrics)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in both.generator.parameters())


def test_the_generators_gradient_is_that_of_its_own_loss() -> None:
    both = pair()
    loss, _ = AdversarialStep(settings(), WORLD, NULL_TEXT)(both, clips(), generator())
    loss.backward()
    gradients = [p.grad.clone() for p in both.generator.parameters() if p.grad is not None]
    both.zero_grad()
    both.discriminator.requires_grad_(False)  # now nothing but the generator's loss has a gradient
    other, _ = AdversarialStep(settings(), WORLD, NULL_TEXT)(both, clips(), generator())
    other.backward()
    for one, parameter in zip(gradients, both.generator.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_a_fake_is_the_clip_of_the_students_own_flight() -> None:
    class Watched(AdversarialPair):
        def forward(self, flight: Flight, *given: Any) -> Any:
            self.flight, self.inputs, self.judged = flight, given[0], given[1]
            return super().forward(flight, *given)

    watched = Watched(*pair().children())  # type: ignore[arg-type]
    step, numbers = AdversarialStep(settings(), WORLD, NULL_TEXT), set()
    for seed in range(4):
        _, metrics = step(watched, clips(), generator(seed))
        number = int(metrics["clip"])
        numbers.add(number)
        flown = fly_latents(watched.generator, watched.flight)[:, :, 1 + 4 * (number - 1) :][:, :, :4]
        fake = watched.flight.sample(watched.generator, watched.inputs, WORLD.sampler)
        torch.testing.assert_close(fake, flown)
        judged, truth = watched.judged, clips().latents
        assert torch.equal(judged.first, truth[:, :, :1])
        assert torch.equal(judged.clip, truth[:, :, 1 + 4 * (number - 1) :][:, :, :4])
        assert bool((judged.t >= 0).all()) and bool((judged.t <= 0.25).all())
    assert numbers == {1, 2}


def test_a_copy_has_nothing_to_regress_to_and_weight_zero_calls_no_teacher() -> None:
    both = pair()
    teacher = copy.deepcopy(both.generator).requires_grad_(False).eval()
    step = AdversarialStep(settings(), WORLD, NULL_TEXT, teacher=(teacher, WORLD.sampler))
    assert float(step(both, clips(), generator())[1]["regression"]) < 1e-8
    step = AdversarialStep(settings(), WORLD, NULL_TEXT, teacher=(teacher, SamplerConfig(num_steps=4)))
    assert float(step(both, clips(), generator())[1]["regression"]) > 1e-4
    teacher.forward = None  # type: ignore[assignment]
    unasked = AdversarialStep(settings(regression_weight=0), WORLD, NULL_TEXT, teacher=(teacher, WORLD.sampler))
    assert "regression" not in unasked(both, clips(), generator())[1]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["relativistic", "non_saturating"])
def test_a_discriminator_learns_true_clips_and_a_generator_learns_from_it(loss: str) -> None:
    both = pair()
    config = settings(loss=loss, num_clips=1, r1_weight=1.0, r2_weight=1.0)
    both.generator.requires_grad_(False)
    optimizer = OptimizerConfig(muon=False, lr=3e-3)
    state = TrainState(module=both, optimizers=build_optimizers(both.discriminator, optimizer))
    shares: list[float] = []

    def record(step: AdversarialStep) -> Any:
        def call(*given: Any) -> Any:
            result = step(*given)
            shares.append(float(result[1]["share_right"]))
            return result

        return call

    fitting = FitConfig(schedule=ScheduleConfig(warmup_steps=2), progress=False)
    frozen = AdversarialStep(config, WORLD, NULL_TEXT, train_generator=False)
    fit(record(frozen), state, lambda *_: clips(), num_steps=25, config=fitting)
    assert sum(shares[-5:]) / 5 > 0.95

    both.generator.requires_grad_(True)
    both.discriminator.requires_grad_(False)
    state = TrainState(module=both, optimizers=build_optimizers(both.generator, optimizer))
    step = AdversarialStep(config, WORLD, NULL_TEXT)

    def mean_loss() -> float:
        with torch.no_grad():
            return sum(float(step(both, clips(), generator(50 + k))[1]["loss_generator"]) for k in range(6)) / 6

    before = mean_loss()
    fit(step, state, lambda *_: clips(), num_steps=25, config=fitting)
    assert mean_loss() < 0.7 * before


def test_the_norms_of_both_networks_gradients_are_clipped_apart() -> None:
    both = pair()
    sgd = [torch.optim.SGD(part.parameters(), lr=1.0) for part in (both.generator, both.discriminator)]
    parts = {"generator": both.generator, "discriminator": both.discriminator}
    before = copy.deepcopy(both)
    state = TrainState(module=both, optimizers=sgd, parts=dict(parts))
    config = FitConfig(schedule=ScheduleConfig(warmup_steps=0), progress=False, max_grad_norm=1e-3)
    fit(AdversarialStep(settings(), WORLD, NULL_TEXT), state, lambda *_: clips(), num_steps=1, config=config)
    for name, part in parts.items():
        others: Iterator[Tensor] = getattr(before, name).parameters()
        pairs = zip(part.parameters(), others, strict=True)
        moved = sum(float((new - old).detach().square().sum()) for new, old in pairs)
        assert moved**0.5 == pytest.approx(1e-3, rel=1e-2)


def test_scores_that_grow_without_end_stop_the_training() -> None:
    both = pair()
    nn.init.constant_(both.discriminator.score.bias, 500.0)
    with pytest.raises(TrainingDiverged, match=r"^adversarial.score_limit: expected scores of mean size 100 or less"):
        AdversarialStep(settings(), WORLD, NULL_TEXT)(both, clips(), generator())


def test_clips_that_are_shorter_than_the_flights_are_named() -> None:
    with pytest.raises(ValueError, match=r"^adversarial.num_clips: expected clips of 13 latent frames or more, got 9"):
        AdversarialStep(settings(num_clips=3), WORLD, NULL_TEXT)(pair(), clips(), generator())


@pytest.mark.parametrize(
    "change",
    [{"loss": "hinge"}, {"num_clips": 0}, {"max_t": 1.5}, {"text_dropout": -1.0}, {"r1_weight": -1.0}, {"sigma": 0.0}],
)
def test_settings_out_of_range_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^adversarial.{next(iter(change))}: expected"):
        AdversarialConfig(**change)
