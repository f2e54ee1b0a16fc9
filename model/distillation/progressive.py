"""Progressive distillation: one Euler step of the student lands where several guided steps of the teacher do.

A phase ends with a student that needs fewer steps and no guidance; it is the teacher of the next phase.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.diffusion.guidance import guided_velocity
from model.diffusion.rectified_flow import interpolate, velocity_loss
from model.diffusion.solver import Velocity
from model.diffusion.timesteps import sampling_schedule
from model.training.windows import LatentBatch, TrainingWindow, WindowSampler, task_name


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """How the teacher samples, and in how many steps the student does.

    Attributes:
        teacher_steps: Euler steps of the teacher.
        student_steps: Of the student; divides the teacher's. With the same number only the guidance is distilled.
        shift: Of both schedules, so that the student's times are among the teacher's.
        guidance_text: Of the teacher (Eq. 3); the student needs none.
        guidance_camera: Likewise.
    """

    teacher_steps: int
    student_steps: int
    shift: float = 1.0
    guidance_text: float = 1.0
    guidance_camera: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError unless every time of the student's schedule is one of the teacher's."""
        if self.student_steps < 1 or self.teacher_steps % self.student_steps:
            raise ValueError(
                f"student_steps: expected a divisor of the teacher's {self.teacher_steps} steps, got "
                f"{self.student_steps}; every stop of the student must be one of the teacher's"
            )

    @property
    def stride(self) -> int:
        """Steps of the teacher that one step of the student replaces."""
        return self.teacher_steps // self.student_steps


class ProgressiveStep:
    """Step function of `fit` for a student VideoDiT that starts as a copy of its teacher.

    True latents are noised to a time of the student's schedule; the teacher continues from there to the student's next
    time; the student learns the one velocity that leads there: (x_t - x_s) / (t - s).

    Args:
        windows: Draws tasks, windows, context times and texts just as in joint training.
        teacher: Frozen, in eval mode.
        clips: Plan for windows with context.
        opening: Plan for windows without context (text-to-video), which a world samples with other settings.
        channel_weights: As in `velocity_loss`.

    Source: Salimans and Ho 2022, Alg. 2, for the straight path; guidance is distilled at the same time, as in the paper
    (its 96 evaluations are 32 steps of three branches). Context times and null cameras as in training: ours.
    """

    def __init__(
        self,
        windows: WindowSampler,
        teacher: nn.Module,
        clips: StepPlan,
        opening: StepPlan,
        channel_weights: Float[Tensor, " c"] | None = None,
    ) -> None:
        self.windows, self.teacher, self.clips, self.opening = windows, teacher, clips, opening
        self.channel_weights = channel_weights

    def __call__(
        self, module: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
        """Returns the mean loss of the new frames, and the same under the task's name (t2v, i2v or ext)."""
        window = self.windows.draw_window(batch, generator)
        num_context, device = window.num_context, window.latents.device
        plan = self.clips if num_context else self.opening
        context, x0 = window.latents.split([num_context, window.latents.shape[2] - num_context], dim=2)
        context_t = self.windows.draw_context_times(window, generator)
        context = interpolate(context, torch.empty_like(context).normal_(generator=generator), context_t[:, 0])
        number = torch.randint(plan.student_steps, (len(x0),), generator=generator, device=device) * plan.stride
        times = sampling_schedule(plan.teacher_steps, plan.shift, device)
        x_t = interpolate(x0, torch.empty_like(x0).normal_(generator=generator), times[number])
        text = self.windows.drop_text(window.text, generator)
        noised = NoisedWindow(window._replace(text=text), context, context_t)
        with torch.no_grad():
            x_s = self.follow(self.guided(noised.window, plan), noised, x_t, number, times, plan.stride)
        t, s = times[number], times[number + plan.stride]
        target = (x_t - x_s) / (t - s).view(-1, 1, 1, 1, 1)
        latents, frame_t = noised.inputs(x_t, t)
        mask = window.is_context
        prediction = module(latents, frame_t, text, context_mask=mask, num_context=num_context, **window.cameras)
        loss = velocity_loss(prediction, target, self.channel_weights).mean()
        return loss, {f"loss_{task_name(num_context)}": loss.detach()}

    def guided(self, window: TrainingWindow, plan: StepPlan) -> Velocity:
        """The teacher's velocity under Eq. 3."""
        return guided_velocity(
            partial(self.teacher, num_context=window.num_context),
            window.text,
            self.windows.null_text.to(window.text).expand_as(window.text),
            window.cameras.get("plucker"),
            plan.guidance_text,
            plan.guidance_camera,
            window.is_context,
            window.cameras.get("projection"),
        )

    @staticmethod
    def follow(
        velocity: Velocity,
        noised: "NoisedWindow",
        x: Float[Tensor, "b c new h w"],
        number: Int[Tensor, "b"],
        times: Float[Tensor, " stops"],
        num_steps: int,
    ) -> Float[Tensor, "b c new h w"]:
        """The result of `num_steps` Euler steps from time `number` of `times`; `number` may differ from row to row."""
        for k in range(num_steps):
            t, t_next = times[number + k], times[number + k + 1]
            x = x + (t_next - t).view(-1, 1, 1, 1, 1) * velocity(*noised.inputs(x, t))
        return x


@dataclass(frozen=True)
class NoisedWindow:
    """What the network continues: a window whose context may be noised, and the context's diffusion times."""

    window: TrainingWindow
    context: Float[Tensor, "b c n h w"]
    context_t: Float[Tensor, "b 1"]

    def inputs(self, x: Float[Tensor, "b c new h w"], t: Float[Tensor, "b"]) -> tuple[Tensor, Tensor]:
        """Latents and times of all frames, context in front."""
        return torch.cat([self.context, x], dim=2), torch.where(self.window.is_context, self.context_t, t[:, None])
