"""The joint step: clean context without loss, no camera for unlabelled rows, windows cut where they may be."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.geometry import se3
from model.geometry.camera import projection_matrix
from model.geometry.plucker import plucker_map
from model.training.ema import ExponentialMovingAverage
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.training.windows import (
    LatentBatch,
    WindowConfig,
    WindowSampler,
    choose_starts,
    jitter_reference,
    sample_memory_frames,
    take_frames,
)

B, C, F, H, W = 6, 4, 9, 4, 6
NULL_TEXT = torch.zeros(3, 8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(b: int = B) -> LatentBatch:
    """Latents that say where they are: value = row + frame / 100."""
    place = torch.arange(b)[:, None] + torch.arange(F) / 100
    twists = 0.3 * torch.randn(b, F, 6, generator=generator(1))
    poses = [torch.eye(4).expand(b, 4, 4)]
    for frame in range(1, F):
        poses.append(poses[-1] @ se3.exp(twists[:, frame]))
    return LatentBatch(
        latents=place[:, None, :, None, None].expand(b, C, F, H, W).clone(),
        c2w=torch.stack(poses, 1),
        intrinsics=torch.tensor([0.6, 1.0, 0.5, 0.5]).expand(b, 4),
        text=torch.randn(b, 3, 8, generator=generator(2)),
        labelled=torch.arange(b) % 3 != 0,
    )


class Spy(nn.Module):
    """Records the inputs of the network and returns zeros, or the output that the test gives."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.answer = answer
        self.seen: dict[str, Tensor] = {}

    def forward(
        self, latents: Tensor, t: Tensor, text: Tensor, plucker: Tensor, context_mask: Tensor, num_context: int
    ) -> Tensor:
        self.seen = {"latents": latents, "t": t, "text": text, "plucker": plucker, "mask": context_mask}
        answer = torch.zeros_like(latents) if self.answer is None else self.answer(self.seen)
        return answer[:, :, num_context:]


def config_with(num_context: int, **changes: Any) -> FlowMatchingConfig:
    settings: dict[str, Any] = {"single_latent_share": 0.0, "text_dropout": 0.0, "reference_jitter": 0.0}
    return FlowMatchingConfig(context_shares={num_context: 1.0}, **{**settings, **changes})


def step_with(num_context: int, **changes: Any) -> FlowMatchingStep:
    return FlowMatchingStep(config_with(num_context, **changes), NULL_TEXT)


def attentive_step() -> FlowMatchingStep:
    return FlowMatchingStep(config_with(1), NULL_TEXT, dit=VideoDiTConfig(camera_attention=True))


@pytest.mark.parametrize("num_context", [0, 1, 4])
def test_context_is_clean_at_time_zero_and_marked(num_context: int) -> None:
    spy = Spy()
    step_with(num_context)(spy, clips(), generator())
    seen, length = spy.seen, num_context + 4 + (num_context == 0)
    assert seen["latents"].shape == (B, C, length, H, W) and seen["t"].shape == (B, length)
    assert seen["mask"].tolist() == [[k < num_context for k in range(length)]] * B
    assert (seen["t"][:, :num_context] == 0).all() and (seen["t"][:, num_context:] > 0).all()
    rows = torch.arange(B).view(B, 1, 1, 1, 1)
    frames = (seen["latents"][:, :, :num_context] - rows) * 100
    assert torch.allclose(frames, frames.round(), atol=1e-3)  # unchanged data, with no noise at all
    assert not torch.allclose(seen["latents"][:, :, num_context:], rows.float(), atol=0.2)


def test_all_new_frames_of_a_row_share_its_time() -> None:
    step_with(4)(spy := Spy(), clips(), generator())
    new = spy.seen["t"][:, 4:]
    assert (new == new[:, :1]).all() and len(new[:, 0].unique()) == B


@pytest.mark.parametrize(("share", "rows_seen"), [(1.0, B), (0.0, B // 3)])
def test_steps_of_single_latents_take_more_rows(share: float, rows_seen: int) -> None:
    spy = Spy()
    step_with(0, single_latent_share=share, single_latent_rows=3)(spy, clips(), generator())
    assert spy.seen["latents"].shape[:3] == (rows_seen, C, 1 if share else 5)
    assert len(spy.seen["text"]) == len(spy.seen["plucker"]) == rows_seen


def test_rows_that_cannot_be_divided_are_named() -> None:
    with pytest.raises(ValueError, match="batch: expected a multiple of single_latent_rows = 8 rows, got 6"):
        step_with(1, single_latent_rows=8)(Spy(), clips(), generator())


def test_the_true_velocity_has_no_loss() -> None:
    batch = clips()

    def truth(seen: dict[str, Tensor]) -> Tensor:
        x0, t = batch.latents[:, :, :5], seen["t"][:, None, :, None, None]
        return (seen["latents"] - x0) / t.clamp(min=1e-6)  # (x_t - x0) / t = noise - x0

    loss, _ = step_with(1)(Spy(truth), batch, generator())
    assert loss < 1e-6


def test_unlabelled_rows_see_an_all_zero_plucker_map_even_if_their_poses_are_unknown() -> None:
    batch = clips()
    poses = batch.c2w.clone()
    poses[~batch.labelled] = float("nan")
    spy = Spy()
    loss, _ = step_with(1)(spy, batch._replace(c2w=poses), generator())
    expected = plucker_map(batch.c2w[:, :5], batch.intrinsics, H, W)
    assert (spy.seen["plucker"][~batch.labelled] == 0).all()
    torch.testing.assert_close(spy.seen["plucker"][batch.labelled], expected[batch.labelled])
    assert torch.isfinite(loss)


def test_a_share_of_the_texts_is_replaced_by_the_null_text() -> None:
    batch = clips(500)
    null = torch.full((3, 8), 7.0)
    windows = WindowSampler(WindowConfig(text_dropout=0.1), null)
    text = windows.drop_text(batch.text, generator())
    is_null = (text == 7).all(-1).all(-1)
    assert 30 < int(is_null.sum()) < 70
    assert torch.equal(text[~is_null], batch.text[~is_null])


def test_tasks_come_in_their_shares() -> None:
    shares = {4: 0.5, 0: 0.2, 1: 0.3, 7: 0.0}
    windows = WindowSampler(WindowConfig(context_shares=shares, single_latent_share=0.5), NULL_TEXT)
    random = generator()
    drawn = [windows.choose_task(random) for _ in range(2000)]
    counts = {task: drawn.count(task) / len(drawn) for task in set(drawn)}
    assert set(counts) == {(0, 1), (0, 5), (1, 4), (4, 4)}
    expected = {(0, 1): 0.1, (0, 5): 0.1, (1, 4): 0.3, (4, 4): 0.5}
    assert counts == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(("num_context", "name"), [(0, "t2v"), (1, "i2v"), (2, "ext"), (5, "ext")])
def test_the_metric_names_the_task(num_context: int, name: str) -> None:
    loss, metrics = step_with(num_context)(Spy(), clips(), generator())
    assert metrics.keys() == {f"loss_{name}"} and metrics[f"loss_{name}"] == loss


@pytest.mark.parametrize(("num_context", "num_new"), [(0, 1), (0, 5), (1, 4)])
def test_a_window_that_begins_an_episode_begins_at_the_clip_s_first_frame(num_context: int, num_new: int) -> None:
    assert choose_starts(clips(), num_context, num_new, generator()).tolist() == [0] * B


def test_extension_windows_begin_anywhere_row_by_row_and_keep_poses_and_latents_together() -> None:
    batch, seen = clips(), set()
    for seed in range(20):
        starts = choose_starts(batch, 3, 4, generator(seed))
        window = take_frames(batch, starts[:, None] + torch.arange(7))
        seen |= set(starts.tolist())
        for row, start in enumerate(starts.tolist()):
            assert torch.equal(window.latents[row], batch.latents[row, :, start : start + 7])
            assert torch.equal(window.c2w[row], batch.c2w[row, start : start + 7])
    assert seen == {0, 1, 2}


def test_memory_is_any_earlier_frames_in_order_and_the_rest_stays() -> None:
    starts = torch.arange(5).repeat(200)
    frames = starts[:, None] + torch.arange(7)
    chosen = sample_memory_frames(frames, 2, generator())
    assert torch.equal(chosen[:, 2:], frames[:, 2:])
    assert (chosen[:, 0] < chosen[:, 1]).all() and (chosen[:, 1] < frames[:, 2]).all()
    for start in range(5):
        seen = {tuple(pair) for pair in chosen[starts == start, :2].tolist()}
        earlier = start + 2
        assert seen == {(i, j) for j in range(earlier) for i in range(j)}


def test_remembered_frames_bring_their_own_latents_and_poses() -> None:
    spy, batch = Spy(), clips(40)
    step_with(4, memory_latents=2)(spy, batch, generator())
    frames = ((spy.seen["latents"][:, 0, :4, 0, 0] - torch.arange(40)[:, None]) * 100).round().long()
    assert (frames.diff(dim=1) > 0).all() and (frames[:, 3] == frames[:, 2] + 1).all()
    assert (frames[:, 2] - frames[:, 1] > 1).any()
    poses = batch.c2w[torch.arange(40)[:, None], frames]
    expected = plucker_map(poses, batch.intrinsics, H, W)[batch.labelled]
    torch.testing.assert_close(spy.seen["plucker"][batch.labelled][:, :4], expected)


class CameraSpy(Spy):
    """A network that also wants projections."""

    def forward(self, *args: Any, projection: Tensor, **named: Any) -> Tensor:
        answer = super().forward(*args, **named)
        self.seen["projection"] = projection
        return answer


def test_camera_attention_sees_projections_and_unlabelled_rows_identities() -> None:
    batch = clips()
    poses = batch.c2w.clone()
    poses[~batch.labelled] = float("nan")
    spy = CameraSpy()
    attentive_step()(spy, batch._replace(c2w=poses), generator())
    seen, labelled = spy.seen["projection"], batch.labelled
    assert torch.equal(seen[~labelled], torch.eye(4).expand_as(seen[~labelled]))
    torch.testing.assert_close(seen[labelled], projection_matrix(batch.c2w[:, :5], batch.intrinsics)[labelled])


def test_clips_that_are_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 9 latent frames .* got 6 \+ 4"):
        step_with(6)(Spy(), clips(), generator())


def test_moving_the_reference_keeps_the_relative_poses() -> None:
    c2w = clips(64).c2w
    moved = jitter_reference(c2w, 6.0, generator())
    before, after = (se3.inverse(p[:, :1]) @ p for p in (c2w, moved))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    se3.check_poses("moved", moved)


def test_the_reference_moves_in_four_of_five_rows_far_and_all_around_but_stays_level() -> None:
    moved = jitter_reference(torch.eye(4).expand(2000, 2, 4, 4), 6.0, generator())[:, 0]
    is_moved = (moved - torch.eye(4)).abs().amax((1, 2)) > 1e-6
    assert float(is_moved.float().mean()) == pytest.approx(0.8, abs=0.03)
    position, forward = moved[is_moved, :3, 3], moved[is_moved, :3, 2]
    assert position[:, 0].abs().max() <= 6 and position[:, 0].abs().max() > 5.5
    assert position[:, 1].abs().max() <= 0.15 * 6
    assert forward[:, 1].abs().max() <= math.sin(math.radians(15)) + 1e-5
    assert (forward[:, 2] < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert moved[is_moved, 1, 0].abs().max() < 1e-6  # no roll: the camera's right stays horizontal


@pytest.mark.parametrize("num_context", [0, 1, 3])
def test_a_window_that_begins_an_episode_keeps_its_reference_and_later_ones_may_move(num_context: int) -> None:
    spy = Spy()
    batch = clips(40)._replace(labelled=torch.ones(40, dtype=torch.bool), c2w=torch.eye(4).repeat(40, F, 1, 1))
    step_with(num_context, reference_jitter=6.0)(spy, batch, generator())
    latents = spy.seen["latents"][:, 0, 0, 0, 0]
    is_first = ((latents - torch.arange(40)) * 100).round() == 0 if num_context else torch.ones(40, dtype=torch.bool)
    at_reference = spy.seen["plucker"][:, 0, :3].abs().amax((1, 2, 3)) < 1e-6  # o x d is zero at the reference itself
    assert at_reference[is_first].all()
    assert num_context < 3 or 0.6 < (~at_reference[~is_first]).float().mean() < 0.95


def test_the_context_of_an_extension_is_noised_to_a_time_of_its_own_that_the_network_gets() -> None:
    batch = clips(40)._replace(latents=torch.zeros_like(clips(40).latents))
    spy = Spy()
    step_with(3, context_noise=0.4, reference_jitter=0.0)(spy, batch, generator())
    times, latents = spy.seen["t"], spy.seen["latents"]
    assert (times[:, :3] == times[:, :1]).all() and (times[:, 3:] == times[:, 3:4]).all()
    assert 0 <= times[:, 0].min() < 0.05 and 0.35 < times[:, 0].max() <= 0.4
    spread = latents.transpose(1, 2).flatten(2).std(dim=-1)  # of pure noise times the time
    torch.testing.assert_close(spread[:, :3], times[:, :3], atol=0.02, rtol=0.3)


def test_a_first_picture_is_never_noised() -> None:
    spy, clean = Spy(), Spy()
    step_with(1, context_noise=0.4)(spy, clips(), generator())
    step_with(1)(clean, clips(), generator())
    assert torch.equal(spy.seen["latents"], clean.seen["latents"]) and torch.equal(spy.seen["t"], clean.seen["t"])


def test_float32_products_in_tf32_or_bfloat16_would_blur_cameras_so_they_are_made_in_float64() -> None:
    spy, exact = CameraSpy(), CameraSpy()
    batch = clips()._replace(labelled=torch.ones(B, dtype=torch.bool))
    attentive_step()(exact, batch, generator())
    with torch.autocast("cpu", torch.bfloat16):
        attentive_step()(spy, batch, generator())
    for name in ("plucker", "projection"):
        assert torch.equal(spy.seen[name], exact.seen[name])


def test_channel_weights_weigh_the_squared_error_of_their_channel() -> None:
    def off_in_first_channel(seen: dict[str, Tensor]) -> Tensor:
        answer = truth(seen)
        answer[:, 0] += 2.0
        return answer

    def truth(seen: dict[str, Tensor]) -> Tensor:
        t = seen["t"][:, None, :, None, None].clamp(min=1e-6)
        return (seen["latents"] - clips().latents[:, :, :5]) / t

    weights = torch.tensor([0.5, 1.5, 1.0, 1.0])
    loss, _ = FlowMatchingStep(config_with(1), NULL_TEXT, channel_weights=weights)(
        Spy(off_in_first_channel), clips(), generator()
    )
    assert loss.item() == pytest.approx(0.5 * 2.0**2 / C, rel=1e-4)


def test_the_same_generator_gives_the_same_loss() -> None:
    step = FlowMatchingStep(FlowMatchingConfig(context_shares={0: 1.0, 1: 1.0, 4: 1.0}), NULL_TEXT)
    losses = [[step(Spy(), clips(), generator(seed))[0].item() for seed in range(5)] for _ in range(2)]
    assert losses[0] == losses[1] and len(set(losses[0])) == 5


def test_a_small_dit_learns_one_batch_in_all_tasks() -> None:
    torch.manual_seed(0)
    config = VideoDiTConfig(in_channels=C, out_channels=C, width=32, num_heads=2, num_blocks=1, ffn_dim=64, text_dim=8)
    dit = VideoDiT(config)
    smooth = torch.linspace(-1, 1, H)[:, None] * torch.linspace(-1, 1, W)
    batch = clips()._replace(latents=smooth * torch.randn(B, C, F, 1, 1, generator=generator(3)))
    step = FlowMatchingStep(FlowMatchingConfig(context_shares={0: 0.3, 1: 0.3, 4: 0.4}), NULL_TEXT)
    curve: list[float] = []

    def recorded(module: nn.Module, batch: LatentBatch, random: torch.Generator) -> Any:
        loss, metrics = step(module, batch, random)
        curve.append(loss.item())
        return loss, metrics

    state = TrainState(
        module=dit, optimizers=build_optimizers(dit, OptimizerConfig(lr=5e-3)), ema=ExponentialMovingAverage(dit)
    )
    settings = FitConfig(schedule=ScheduleConfig(warmup_steps=5), progress=False)
    fit(recorded, state, lambda step, micro: batch, num_steps=50, config=settings)
    assert sum(curve[-10:]) < 0.8 * sum(curve[:10])


def test_ac3d_learns_clips_with_a_camera_at_high_noise_alone() -> None:
    spy, batch = Spy(), clips(64)
    FlowMatchingStep(config_with(1), NULL_TEXT, dit=VideoDiTConfig(camera_injection="ac3d"))(spy, batch, generator())
    t, labelled = spy.seen["t"][:, -1], batch.labelled
    assert (t[labelled] >= 0.6).all() and (t[~labelled] < 0.6).any()


def test_with_a_reference_for_each_clip_both_parts_of_a_window_begin_at_identity() -> None:
    spy, batch = Spy(), clips()
    per_clip = VideoDiTConfig(camera_reference="clip")
    FlowMatchingStep(config_with(4), NULL_TEXT, dit=per_clip)(spy, batch, generator())
    identity = plucker_map(torch.eye(4)[None, None], batch.intrinsics[:1], H, W)[0, 0]
    firsts = spy.seen["plucker"][batch.labelled][:, [0, 4]]
    torch.testing.assert_close(firsts, identity.expand_as(firsts), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="reference_jitter: expected 0, it has no effect"):
        FlowMatchingStep(FlowMatchingConfig(), NULL_TEXT, dit=per_clip)
