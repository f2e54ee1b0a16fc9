"""Takes one clip through the steps of Sec. 3.2: motion of the camera, its poses, and their metric scale."""

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.curation.camera_motion import CameraMotionConfig, camera_motion
from model.curation.path_agreement import StepErrors, step_errors
from model.curation.path_parts import MAX_LENS_OF_HALF, difference, outlier_frames, path_parts, without_frames
from model.curation.poses import PosesConfig, fill_gaps, pose_rejection
from model.curation.scale import ScaleConfig, SceneScale, keyframes, metric_scale, rescale
from model.curation.shots import ClipFrames
from model.estimators.metric_depth import JudgesLens, MetricDepth
from model.estimators.motion_mask import MotionMask
from model.estimators.optical_flow import OpticalFlow
from model.estimators.sfm import Reconstruction, ReconstructionFailed, StructureFromMotion
from model.geometry.camera import intrinsics_from_fov
from model.geometry.trajectory import CameraTrajectory


@dataclass(kw_only=True)
class StepsConfig:
    """Settings of the steps for a single clip.

    Attributes:
        motion: How much the camera must move.
        poses: Which reconstructions are accepted.
        scale: How Eq. 2 is solved.
        max_spread: Keyframes' scales may not differ by more (standard deviation over mean); they do where structure
            from motion has bent the scene.
        min_keyframes: Share of the keyframes that must have a scale, for the same reason.
        horizontal_fov_deg: The lens of all films if it is known; None: it is estimated per clip.
        lens_from_depth: Use the depth network's lens estimate, if it has one (Depth Pro): the median over keyframes.
            Many paths do not determine the lens, but pictures do. Else structure from motion estimates it.
        min_fov_deg: An estimated lens that is narrower is a mistake.
        max_fov_deg: An estimated lens that is wider is a mistake.
        max_lens_deviation: Largest standard deviation of an estimated focal length, divided by it: some paths, such as
            one straight up, do not determine the lens; then any lens explains the film as well.
        check_halves: Reject a clip whose whole path passes if one of its halves, solved separately, contradicts it.
            Structure from motion then takes twice as long.
    """

    motion: CameraMotionConfig = field(default_factory=CameraMotionConfig)
    poses: PosesConfig = field(default_factory=PosesConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    max_spread: float = 0.08
    min_keyframes: float = 0.5
    horizontal_fov_deg: float | None = None
    lens_from_depth: bool = True
    min_fov_deg: float = 15.0
    max_fov_deg: float = 120.0
    max_lens_deviation: float = 0.02
    check_halves: bool = False


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The estimators of the steps; without a mask all pixels count as static, without depth poses are not metric.

    `other_sfm` is tried where the clip's own pictures do not confirm what `sfm` finds.
    """

    flow: OpticalFlow
    sfm: StructureFromMotion
    other_sfm: StructureFromMotion | None = None
    mask: MotionMask | None = None
    depth: MetricDepth | None = None

    def in_turn(self) -> Iterator["Tools"]:
        """Yields these tools with each structure from motion alone, the first one first."""
        for sfm in filter(None, (self.sfm, self.other_sfm)):
            yield dataclasses.replace(self, sfm=sfm, other_sfm=None)


class ClipRejected(Exception):
    """A step does not let the clip pass; the message says why, with the numbers."""


@dataclass
class StepLog:
    """A clip's current step, what was measured, and how long each step took."""

    step: str = "read"
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Times a step; if the step raises, `step` names it."""
        self.step = step
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = time.perf_counter() - begin

    def record(self, **numbers: float) -> None:
        """Stores numbers under the step's name, rounded to six digits."""
        self.numbers |= {f"{self.step}.{name}": float(f"{value:.6g}") for name, value in numbers.items()}

    def raise_if_rejected(self, rejection: str) -> None:
        """Raises ClipRejected if there is a reason to reject."""
        if rejection:
            raise ClipRejected(rejection)


@dataclass(frozen=True)
class ClipLabel:
    """The camera of a clip, or of a part of it.

    Attributes:
        part: The clip's frames that have a camera.
        camera: The camera of these frames.
        scale: Metres per unit of the reconstruction; None: the poses are not metric.
    """

    part: slice
    camera: CameraTrajectory
    scale: float | None


def label_clip(clip: ClipFrames, tools: Tools, config: StepsConfig, log: StepLog, min_frames: int) -> ClipLabel:
    """Returns the camera of a clip that passes all steps, or of its longest part that does.

    Args:
        clip: The clip.
        tools: The estimators.
        config: What the steps demand.
        log: Receives the measured numbers.
        min_frames: Fewest frames of a part.

    Raises:
        ClipRejected: a step does not let it pass.
        ReconstructionFailed: structure from motion finds no poses.

    Source: the paper, Sec. 3.2.
    """
    with log.timed("motion"):
        moving = moving_pixels(clip.frames, tools)
        motion = camera_motion(clip.frames, moving, clip.fps, tools.flow)
        log.record(pixels_per_frame=motion.pixels_per_frame, speed=motion.speed, static_share=motion.static_share)
        log.raise_if_rejected(motion.rejection(config.motion))
    with log.timed("poses"):
        lens = find_lens(clip.frames, tools.depth, config)
        part, reconstruction = solve_path(clip.frames, moving, lens, tools, config, log, min_frames)
        camera = fill_gaps(reconstruction)
    if tools.depth is None:
        return ClipLabel(part, camera, None)
    clip = dataclasses.replace(clip, frames=clip.frames[part], times=clip.times[part])
    with log.timed("scale"):
        scale = metric_scale(clip.frames, reconstruction, tools.depth, config.scale)
        if scale is None:
            raise ClipRejected("no keyframe has enough points whose depths agree")
        log.record(scale=scale.scale, spread=scale.spread, keyframes=len(scale.frames))
        log.raise_if_rejected(scale_rejection(scale, int(reconstruction.registered.sum()), config))
        return ClipLabel(part, CameraTrajectory(rescale(camera.c2w, scale.scale), camera.intrinsics), scale.scale)


def solve_path(
    frames: UInt8[Tensor, "f h w 3"],
    moving: Bool[Tensor, "f h w"],
    lens: Float[Tensor, "4"] | None,
    tools: Tools,
    config: StepsConfig,
    log: StepLog,
    min_frames: int,
) -> tuple[slice, Reconstruction]:
    """Returns the path of the clip, or of its longest part that agrees with the pictures, and the frames of the path.

    A part counts only if it is solved again separately, and both solutions agree on lens and path.

    Raises:
        ClipRejected: no part of at least `min_frames` has a path that is good enough.
        ReconstructionFailed: structure from motion finds no poses.
    """
    if tools.other_sfm is not None:
        first, second = tools.in_turn()
        try:
            return solve_path(frames, moving, lens, first, config, log, min_frames)
        except (ClipRejected, ReconstructionFailed):
            return solve_path(frames, moving, lens, second, config, log, min_frames)
    whole = tools.sfm(frames, moving if tools.mask is not None else None, lens)
    log.record(**reconstruction_numbers(whole))
    if int(whole.registered.sum()) < min_frames:
        log.raise_if_rejected(pose_rejection(whole, config.poses))
    log.raise_if_rejected(lens_rejection(whole, config))
    solved, off, rejection = verify_path(frames, moving, whole, tools.flow, config.poses, log)
    if not rejection:
        log.record(num_frames=len(frames))
        if config.check_halves:
            log.raise_if_rejected(halves_rejection(frames, moving, solved, lens, tools, config))
        return slice(0, len(frames)), solved
    part = longest_part(solved, off, config.poses)
    if part.stop - part.start < min_frames or part == slice(0, len(frames)):
        raise ClipRejected(rejection)
    again = tools.sfm(frames[part], moving[part] if tools.mask is not None else None, lens)
    log.record(num_frames=part.stop - part.start, **reconstruction_numbers(again))
    log.raise_if_rejected(lens_rejection(again, config) or difference(solved, again, part.start))
    again, _, rejection = verify_path(frames[part], moving[part], again, tools.flow, config.poses, log)
    log.raise_if_rejected(rejection)
    return part, again


def halves_rejection(
    frames: UInt8[Tensor, "f h w 3"],
    moving: Bool[Tensor, "f h w"],
    whole: Reconstruction,
    lens: Float[Tensor, "4"] | None,
    tools: Tools,
    config: StepsConfig,
) -> str:
    """Returns how a half of the clip, solved separately, differs from the whole; empty if no half contradicts it.

    Half of the frames are often too few for a path or a lens. So a half counts only if it passes the checks that a clip
    must pass; a path that fails proves nothing.
    """
    middle = len(frames) // 2
    for half in (slice(0, middle), slice(middle, len(frames))):
        try:
            again = tools.sfm(frames[half], moving[half] if tools.mask is not None else None, lens)
        except ReconstructionFailed:
            continue
        if pose_rejection(again, config.poses) or lens_rejection(again, config):
            continue
        differs = difference(whole, again, half.start, MAX_LENS_OF_HALF)
        if differs and not verify_path(frames[half], moving[half], again, tools.flow, config.poses, StepLog())[2]:
            return differs
    return ""


def verify_path(
    frames: UInt8[Tensor, "f h w 3"],
    moving: Bool[Tensor, "f h w"],
    reconstruction: Reconstruction,
    flow: OpticalFlow,
    config: PosesConfig,
    log: StepLog,
) -> tuple[Reconstruction, Bool[Tensor, " f"], str]:
    """Returns the path without the few frames at a wrong place; which steps are off; and why the path is rejected.

    A path is rejected if it is not accepted, or if a step disagrees with the flow, or with the pictures' epipolar
    geometry, and leaving out few frames does not help. The reason is empty if the pictures confirm the path.
    """
    errors = _measured(step_errors(frames, moving, reconstruction, flow, config.min_flow_share), config, log)
    parts = path_parts(reconstruction.registered, errors.jumps(config), config.max_gap)
    outliers = outlier_frames(parts, config.max_outliers)
    log.record(outliers=len(outliers))
    if not outliers:
        rejection = pose_rejection(reconstruction, config) or errors.rejection(config)
        return reconstruction, errors.inconsistent_steps(config), rejection
    rest = without_frames(reconstruction, outliers)
    remaining = _measured(step_errors(frames, moving, rest, flow, config.min_flow_share), config, log)
    rejection = (errors if pose_rejection(rest, config) else remaining).rejection(config)
    return rest, remaining.inconsistent_steps(config), rejection


def _measured(errors: StepErrors, config: PosesConfig, log: StepLog) -> StepErrors:
    log.record(flow_distance=float(errors.flow_distance.max()), epipolar_excess=float(errors.epipolar_excess.max()))
    log.record(mean_epipolar_excess=max(errors.mean_excess(config).tolist(), default=0.0))
    return errors


def longest_part(reconstruction: Reconstruction, off: Bool[Tensor, " f"], config: PosesConfig) -> slice:
    """Returns the longest run of frames in which no step is off; its ends are frames that see enough points."""
    known = reconstruction.registered & (reconstruction.num_observations >= config.min_observations)
    longest = max(path_parts(known, off, config.max_gap), key=lambda part: part[-1] - part[0], default=[0])
    return slice(longest[0], longest[-1] + 1)


def moving_pixels(frames: UInt8[Tensor, "f h w 3"], tools: Tools) -> Bool[Tensor, "f h w"]:
    """Returns the mask of moving objects; all False if there is no estimator."""
    return torch.zeros(frames.shape[:3], dtype=torch.bool) if tools.mask is None else tools.mask(frames)


def known_lens(frames: UInt8[Tensor, "f h w 3"], horizontal_fov_deg: float | None) -> Float[Tensor, "4"] | None:
    """Returns the intrinsics of a given angle of view."""
    if horizontal_fov_deg is None:
        return None
    return intrinsics_from_fov(horizontal_fov_deg * torch.pi / 180, *frames.shape[1:3])


def find_lens(
    frames: UInt8[Tensor, "f h w 3"], depth: MetricDepth | None, config: StepsConfig
) -> Float[Tensor, "4"] | None:
    """Returns the intrinsics that structure from motion must keep, known or estimated from pictures; or None."""
    judged = None
    if config.horizontal_fov_deg is None and config.lens_from_depth and isinstance(depth, JudgesLens):
        judged = depth.horizontal_fov_deg(frames[keyframes(len(frames), config.scale.num_keyframes)])
    fov = config.horizontal_fov_deg if judged is None else float(judged.median())
    return known_lens(frames, fov)


def horizontal_fov_deg(intrinsics: Float[Tensor, "4"]) -> float:
    """Returns the horizontal angle of view."""
    return math.degrees(2 * math.atan(0.5 / float(intrinsics[0])))


def lens_rejection(reconstruction: Reconstruction, config: StepsConfig) -> str:
    """Returns why a lens cannot be trusted; empty if it can, or if it was given."""
    fov_deg, deviation = horizontal_fov_deg(reconstruction.intrinsics), reconstruction.lens_deviation
    if config.horizontal_fov_deg is None and not config.min_fov_deg <= fov_deg <= config.max_fov_deg:
        return f"the lens comes out {fov_deg:.1f} degrees wide, not {config.min_fov_deg} to {config.max_fov_deg}"
    if deviation > config.max_lens_deviation:
        share = f"{100 * deviation:.2g} %" if deviation < 1 else "more than its length"
        limit = f"{100 * config.max_lens_deviation:.2g} %"
        return f"the path leaves the lens open: its focal length may be off by {share}, {limit} are allowed"
    return ""


def scale_rejection(scale: SceneScale, num_registered: int, config: StepsConfig) -> str:
    """Returns why a scale cannot be trusted; empty if it can."""
    chosen = len(keyframes(num_registered, config.scale.num_keyframes))
    if len(scale.frames) < config.min_keyframes * chosen:
        return f"{len(scale.frames)} of {chosen} keyframes have a scale, less than {config.min_keyframes}"
    if scale.spread > config.max_spread:
        return f"the keyframes' scales spread by {scale.spread:.3f} of their mean, more than {config.max_spread}"
    return ""


def reconstruction_numbers(reconstruction: Reconstruction) -> dict[str, float]:
    """Returns a reconstruction's numbers for the ledger."""
    registered = reconstruction.registered
    inliers = reconstruction.num_observations[registered]
    return {
        "registered_share": float(registered.float().mean()),
        "points": float(len(reconstruction.points)),
        "median_inliers": float(inliers.float().median()) if len(inliers) else 0.0,
        "reprojection_error": reconstruction.reprojection_error,
        "lens_deviation": reconstruction.lens_deviation,
        "horizontal_fov_deg": horizontal_fov_deg(reconstruction.intrinsics),
    }
