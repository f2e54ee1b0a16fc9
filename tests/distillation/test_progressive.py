"""A student's step lands where its teacher's several, guided ones do."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.diffusion.timesteps import sampling_schedule
from model.distillation.progressive import ProgressiveStep, StepPlan
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.training.windows import LatentBatch, WindowConfig, WindowSampler

B, C, F, H, W = 6, 4, 9, 2, 3
NULL_TEXT = torch.zeros(3, 8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips() -> LatentBatch:
    return LatentBatch(
        latents=torch.randn(B, C, F, H, W, generator=generator(1)),
        c2w=torch.eye(4).repeat(B, F, 1, 1),
        intrinsics=torch.tensor([0.6, 1.0, 0.5, 0.5]).expand(B, 4),
        text=torch.randn(B, 3, 8, generator=generator(2)),
        labelled=torch.arange(B) % 3 != 0,
    )


def windows(num_context: int, camera_attention: bool = False, **changes: Any) -> WindowSampler:
    settings: dict[str, Any] = {"single_latent_share": 0.0, "text_dropout": 0.0, "reference_jitter": 0.0}
    config = WindowConfig(context_shares={num_context: 1.0}, **{**settings, **changes})
    return WindowSampler(config, NULL_TEXT, VideoDiTConfig(camera_attention=camera_attention))


class Field(nn.Module):
    """A network whose velocity is a known function of what it is asked; remembers the times and the latents."""

    def __init__(self, velocity: Any) -> None:
        super().__init__()
        self.velocity, self.asked = velocity, []

    def forward(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor | None = None,
        context_mask: Tensor | None = None,
        num_context: int = 0,
    ) -> Tensor:
        self.asked.append((latents, t, text, plucker, context_mask))
        answer: Tensor = self.velocity(latents, text, plucker)
        return answer[:, :, num_context:]


def dit(seed: int = 0) -> VideoDiT:
    torch.manual_seed(seed)
    sizes = {"in_channels": C, "out_channels": C, "width": 24, "num_heads": 2, "num_blocks": 2, "ffn_dim": 48}
    network = VideoDiT(VideoDiTConfig(**sizes, text_dim=8, freq_dim=8, patch_size=[1, 1, 1], camera_attention=True))
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.2)
    return network


PLAIN = StepPlan(teacher_steps=4, student_steps=2, shift=3.0)


@pytest.mark.parametrize("num_context", [0, 1, 4])
def test_the_target_is_the_slope_to_where_the_teacher_is_after_its_steps(num_context: int) -> None:
    """For dx/dt = x, an Euler step multiplies by 1 + (t' - t): the student's one velocity is known."""
    teacher = Field(lambda x, text, plucker: x)
    times = sampling_schedule(4, 3.0)

    def answer(x: Tensor, text: Tensor, plucker: Tensor) -> Tensor:
        t = student.asked[-1][1][:, -1]
        number = (times == t[:, None]).float().argmax(dim=1)
        t1, t2 = times[number + 1], times[number + 2]
        factor = ((1 + t1 - t) * (1 + t2 - t1) - 1) / (t2 - t)
        return x * factor.view(-1, 1, 1, 1, 1)

    student = Field(answer)
    step = ProgressiveStep(windows(num_context), teacher, PLAIN, PLAIN)
    for seed in range(4):
        loss, metrics = step(student, clips(), generator(seed))
        assert float(loss) < 1e-10
        assert set(metrics) == {"loss_" + {0: "t2v", 1: "i2v", 4: "ext"}[num_context]}
    stops = torch.cat([t[:, -1] for _, t, *_ in student.asked]).unique()
    assert torch.equal(stops, times[[2, 0]])  # a student of two steps is only ever asked at its own two stops


def test_the_teacher_goes_on_from_the_noised_truth_with_the_context_as_it_is() -> None:
    teacher, student = Field(lambda x, *_: x), Field(lambda x, *_: x)
    ProgressiveStep(windows(4), teacher, PLAIN, PLAIN)(student, clips(), generator())
    shown, t, *_, mask = student.asked[0]
    first, later = teacher.asked
    assert len(teacher.asked) == 2 and torch.equal(first[0], shown) and torch.equal(first[1], t)
    assert torch.equal(later[0][:, :, :4], shown[:, :, :4]) and not torch.equal(later[0][:, :, 4:], shown[:, :, 4:])
    assert bool((t[:, :4] == 0).all()) and bool(mask[:, :4].all()) and not bool(mask[:, 4:].any())
    assert bool((later[1][:, 4:] < t[:, 4:]).all())


def test_a_noised_context_is_noised_once_and_both_networks_get_its_time() -> None:
    teacher, student = Field(lambda x, *_: x), Field(lambda x, *_: x)
    batch = clips()
    ProgressiveStep(windows(4, context_noise=0.5), teacher, PLAIN, PLAIN)(student, batch, generator())
    shown, t, *_ = student.asked[0]
    assert bool((t[:, :4] > 0).all()) and bool((t[:, :4] <= 0.5).all())
    for latents, times, *_ in teacher.asked:
        assert torch.equal(latents[:, :, :4], shown[:, :, :4]) and torch.equal(times[:, :4], t[:, :4])


def test_guidance_is_taken_in() -> None:
    """The student is asked once, with text and camera; the teacher's answer is Eq. 3 of three."""
    text_only, both = 3.0, 10.0

    def branches(x: Tensor, text: Tensor, plucker: Tensor) -> Tensor:
        has_text, has_camera = text.abs().sum((1, 2)) > 0, plucker.abs().sum((1, 2, 3, 4)) > 0
        value = torch.where(has_text & has_camera, both, torch.where(has_text, text_only, 1.0))
        return value.view(-1, 1, 1, 1, 1).expand_as(x)

    plan = StepPlan(teacher_steps=3, student_steps=3, guidance_text=2.0, guidance_camera=5.0)
    labelled = 1 + 2 * (text_only - 1) + 5 * (both - text_only)
    unlabelled = 1 + 2 * (text_only - 1)
    wanted = torch.where(clips().labelled, labelled, unlabelled).view(-1, 1, 1, 1, 1)
    student = Field(lambda x, *_: wanted.expand_as(x))
    loss, _ = ProgressiveStep(windows(1), Field(branches), plan, PLAIN)(student, clips(), generator())
    assert float(loss) < 1e-8 and len(student.asked) == 1


def test_openings_and_clips_have_plans_of_their_own() -> None:
    many = StepPlan(teacher_steps=16, student_steps=2)
    for num_context, calls in ((0, 8), (1, 2)):
        teacher = Field(lambda x, *_: x)
        ProgressiveStep(windows(num_context), teacher, PLAIN, many)(Field(lambda x, *_: x), clips(), generator())
        assert len(teacher.asked) == calls


def test_a_copy_has_nothing_to_learn_from_a_teacher_that_takes_its_own_steps() -> None:
    teacher = dit().requires_grad_(False)
    plan = StepPlan(teacher_steps=2, student_steps=2)
    step = ProgressiveStep(windows(4, camera_attention=True), teacher, plan, plan)
    loss, _ = step(copy.deepcopy(teacher), clips(), generator())
    assert float(loss) < 1e-8


def test_channel_weights_weigh_the_error_as_in_training() -> None:
    plan = StepPlan(teacher_steps=1, student_steps=1)
    weights = torch.tensor([4.0, 0.0, 0.0, 0.0])

    def wrong_by_one_in(channel: int) -> float:
        off = torch.zeros(C).index_fill(0, torch.tensor(channel), 1.0).view(-1, 1, 1, 1)
        step = ProgressiveStep(windows(1), Field(lambda x, *_: x), plan, plan, weights)
        return float(step(Field(lambda x, *_: x + off), clips(), generator())[0])

    assert wrong_by_one_in(0) == pytest.approx(1, abs=1e-3) and wrong_by_one_in(1) == pytest.approx(0, abs=1e-6)


def test_a_student_comes_nearer_to_its_teacher() -> None:
    """The error of a copy, which takes the teacher's steps twice as long, falls to a fraction."""
    teacher = dit().requires_grad_(False)
    step = ProgressiveStep(windows(1, camera_attention=True), teacher, PLAIN, PLAIN)
    student = copy.deepcopy(teacher).requires_grad_(True)

    def error() -> float:
        with torch.no_grad():
            return sum(float(step(student, clips(), generator(100 + seed))[0]) for seed in range(8)) / 8

    before = error()
    state = TrainState(module=student, optimizers=build_optimizers(student, OptimizerConfig(muon=False, lr=2e-3)))
    schedule = ScheduleConfig(warmup_steps=5)
    fit(step, state, lambda *_: clips(), num_steps=60, config=FitConfig(schedule=schedule, progress=False))
    assert error() < 0.5 * before


@pytest.mark.parametrize("student", [0, 3, 8])
def test_stops_that_the_teacher_does_not_make_are_refused(student: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^student_steps: expected a divisor of the teacher's 4 steps, got {student}"
    ):
        StepPlan(teacher_steps=4, student_steps=student)
