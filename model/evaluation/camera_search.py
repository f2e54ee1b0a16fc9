"""Finds a frame's camera without structure from motion: the pose whose rendering of the known scene fits best.

Source: ours, because SfM fails, silently, on small or blurred frames: exactly where an error would be largest.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from model.evaluation.truth import CameraTruth
from model.geometry import se3

Verdict = Literal["solved", "unseen", "no_match", "ran_away"]
_COLOUR_RIDGE = 1e-3  # keeps gains near 1 and biases near 0 where a picture hardly determines them
_PLAIN = torch.tensor([1.0] * 3 + [0.0] * 3, dtype=torch.float64)  # gains and biases that do not change colours
VERDICTS: tuple[Verdict, ...] = ("solved", "unseen", "no_match", "ran_away")


@dataclass(kw_only=True)
class SearchConfig:
    """Settings of the search for a frame's pose.

    Attributes:
        blurs: Standard deviations in pixels at 80 columns, coarse to fine; they grow with the picture.
        steps: Metres and radians by which the numerical Jacobian moves the camera, for each blur.
        iterations: Most iterations for each blur.
        huber: Residual (colours in [0, 1]) above which the coarsest blur's cost is linear; finer ones use Tukey's.
        min_share: Share of the pixels that must be usable; with fewer, the frame counts as unseen.
        inlier: A residual (colours in [0, 1]) below it at the finest blur is a match.
        min_inliers: Share of the usable pixels that must match.
        max_metres: A search that ends farther from its start has run away.
        max_radians: Likewise.
    """

    blurs: tuple[float, ...] = (4.0, 2.0, 1.0)
    steps: tuple[float, ...] = (0.06, 0.045, 0.04)
    iterations: int = 8
    huber: float = 0.02
    min_share: float = 0.1
    inlier: float = 0.06
    min_inliers: float = 0.5
    max_metres: float = 1.5
    max_radians: float = math.radians(25)


@dataclass(frozen=True)
class FoundPose:
    """The result of one search: pose (meaningful only when solved), verdict, share of matching pixels, robust cost."""

    c2w: Float[Tensor, "4 4"]
    verdict: Verdict
    inliers: float
    cost: float

    @property
    def is_solved(self) -> bool:
        return self.verdict == "solved"


def find_pose(
    truth: CameraTruth,
    frame: UInt8[Tensor, "h w 3"],
    usable: Bool[Tensor, "h w"],
    starts: Float[Tensor, "n 4 4"],
    config: SearchConfig | None = None,
) -> FoundPose:
    """The best of the searches from all starts; `usable` marks pixels that must look like the resting scene."""
    config = config or SearchConfig()
    if float(usable.float().mean()) < config.min_share:
        return FoundPose(starts[0], "unseen", 0.0, math.inf)
    found = [_descend(truth, frame, usable, start, config) for start in starts]
    solved = [pose for pose in found if pose.is_solved]
    return min(solved or found, key=lambda pose: pose.cost)


def _descend(
    truth: CameraTruth, frame: Tensor, usable: Tensor, start: Float[Tensor, "4 4"], config: SearchConfig
) -> FoundPose:
    """Levenberg-Marquardt over a twist (and the frame's colour drift), on pictures with less and less blur."""
    fit = _Fit(start.double(), _PLAIN)
    cost, inliers = math.inf, 0.0
    for level, (blur, step) in enumerate(zip(config.blurs, config.steps, strict=True)):
        problem = _Residuals(truth, frame, usable, blur * truth.width / 80)
        if 2 * float(problem.inside.float().mean()) < config.min_share:  # usable pixels, but all of them isolated
            return FoundPose(start, "unseen", 0.0, math.inf)
        tolerance = step / (60 if level == len(config.blurs) - 1 else 10)
        huber = config.huber if level == 0 else None
        fit, cost, residual = problem.minimise(fit, step, config.iterations, tolerance, huber)
        inliers = float((residual.abs().amax(dim=0) < config.inlier).double().mean())
    c2w = fit.c2w
    moved = se3.log(se3.relative(start.double(), c2w))
    verdict: Verdict = "solved"
    if float(moved[:3].norm()) > config.max_metres or float(moved[3:].norm()) > config.max_radians:
        verdict = "ran_away"
    elif inliers < config.min_inliers:
        verdict = "no_match"
    return FoundPose(c2w.to(start.dtype), verdict, inliers, cost)


@dataclass(frozen=True)
class _Fit:
    """A pose, and the gain and bias of every colour that turn its rendering into the frame."""

    c2w: Float[Tensor, "4 4"]
    colours: Float[Tensor, "6"]

    def moved(self, change: Float[Tensor, "12"]) -> "_Fit":
        return _Fit(self.c2w @ se3.exp(change[:6]), self.colours + change[6:])

    def colour_cost(self) -> float:
        """Cost of a change of colours, which is added to the mean cost of the residuals."""
        return _COLOUR_RIDGE / 6 * float((self.colours - _PLAIN).square().sum())


class _Residuals:
    """Differences between a frame and renderings of the resting scene, blurred within the usable pixels."""

    def __init__(self, truth: CameraTruth, frame: Tensor, usable: Tensor, sigma: float) -> None:
        self.truth, self.sigma = truth, sigma
        self.mask = usable.double()[None, None]
        self.cover = _blur(self.mask, sigma)
        self.inside = usable & (self.cover[0, 0] > 0.3)
        self.target = self._view(frame[None])[0]

    def minimise(
        self, fit: _Fit, step: float, iterations: int, tolerance: float, huber: float | None
    ) -> tuple[_Fit, float, Tensor]:
        """Levenberg-Marquardt: the fit, its robust cost and its residuals `3 n`."""
        residual, view = self.at(fit)
        damping = 1e-5  # more would stall, because a turn and a step aside change the picture almost alike
        for _ in range(iterations):
            normal, slope = self._normal_equations(fit, view, residual, step, huber)
            for _ in range(4):
                change = torch.linalg.solve(normal + damping * normal.diagonal().diag(), slope)
                proposal = fit.moved(change)
                changed, changed_view = self.at(proposal)
                gain = _cost(residual, residual, huber) - _cost(changed, residual, huber)
                if gain + fit.colour_cost() - proposal.colour_cost() > 0:
                    break
                damping *= 8
            else:
                break
            fit, residual, view, damping = proposal, changed, changed_view, max(damping / 8, 1e-6)
            if float(change[:3].norm()) < tolerance and float(change[3:6].norm()) < tolerance / 4:
                break
        return fit, _cost(residual, residual, huber), residual

    def at(self, fit: _Fit) -> tuple[Float[Tensor, "3 n"], Float[Tensor, "3 n"]]:
        """Residuals, and the rendering before its colours are adapted."""
        view = self._render(fit.c2w[None])[0]
        gain, bias = fit.colours[:3, None], fit.colours[3:, None]
        return self.target - gain * view - bias, view

    def _normal_equations(
        self, fit: _Fit, view: Tensor, residual: Tensor, step: float, huber: float | None
    ) -> tuple[Float[Tensor, "12 12"], Float[Tensor, "12"]]:
        """For twist (central differences; a radian moves a point 3 m away by 3 m), then gains, then biases."""
        widths = torch.tensor([step] * 3 + [step / 3] * 3, dtype=torch.float64)
        twists = torch.cat([widths.diag(), -widths.diag()])
        views = self._render(fit.c2w @ se3.exp(twists))
        by_pose = (views[:6] - views[6:]) / (2 * widths[:, None, None]) * fit.colours[:3, None]
        channels = torch.eye(3, dtype=torch.float64)[:, :, None]
        rows = torch.cat([by_pose, channels * view, channels * torch.ones_like(view)]).flatten(1)
        weighted = rows * _weights(residual, huber).flatten()
        normal, slope = weighted @ rows.T, weighted @ residual.flatten()
        ridge = torch.tensor([1e-9] * 6 + [_COLOUR_RIDGE * view.shape[1]] * 6, dtype=torch.float64)
        slope[6:] += ridge[6:] * (_PLAIN - fit.colours)
        return normal + ridge.diag(), slope

    def _render(self, c2w: Tensor) -> Tensor:
        # supersampled for the derivatives too: otherwise edges jump from pixel to pixel and the floor is 30 x as high
        return self._view(self.truth.static_frames(c2w))

    def _view(self, frames: Tensor) -> Tensor:
        """Blurred values `k 3 n` of frames at the pixels inside; unusable pixels do not affect them."""
        values = frames.movedim(-1, 1).double() / 255
        blurred = _blur(values * self.mask, self.sigma) / self.cover.clamp(min=1e-6)
        return blurred[:, :, self.inside]


def _scale(residual: Tensor) -> float:
    """Robust standard deviation, at least 1/255."""
    return max(1.4826 * float(residual.abs().median()), 1 / 255)


def _weights(residual: Tensor, huber: float | None) -> Tensor:
    """Weights of iterated least squares: Huber's, or Tukey's, which ignore residuals that do not fit at all."""
    if huber is not None:
        return (huber / residual.abs().clamp(min=1e-9)).clamp(max=1)
    return (1 - (residual / (4.685 * _scale(residual))).square()).clamp(min=0).square()


def _cost(residual: Tensor, reference: Tensor, huber: float | None) -> float:
    """Mean robust cost at the reference's scale: only costs at the same scale may be compared."""
    if huber is not None:
        size = residual.abs()
        return float(torch.where(size < huber, size.square() / 2, huber * (size - huber / 2)).mean())
    cut = 4.685 * _scale(reference)
    return float((cut * cut / 6 * (1 - (1 - (residual / cut).square()).clamp(min=0) ** 3)).mean())


def _blur(values: Float[Tensor, "k c h w"], sigma: float) -> Float[Tensor, "k c h w"]:
    """Gaussian blur; the zeros beyond the border are compensated by the cover."""
    radius = math.ceil(2.5 * sigma)
    at = torch.arange(-radius, radius + 1, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (at / sigma).square())
    kernel = kernel / kernel.sum()
    flat = values.flatten(0, 1)[:, None]
    flat = functional.conv2d(flat, kernel[None, None, None], padding=(0, radius))
    flat = functional.conv2d(flat, kernel[None, None, :, None], padding=(radius, 0))
    return flat.view_as(values)
