"""Distance between the camera that a world's frames show and the commanded camera, with the measure's own floor."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from tqdm import tqdm

from model.evaluation.camera_search import VERDICTS, FoundPose, SearchConfig, find_pose
from model.evaluation.truth import CameraTruth
from model.evaluation.visibility import seen_at_start
from model.geometry import se3

FLOOR_METRES, FLOOR_RADIANS = 0.05, math.radians(1)  # how far off the search starts on true frames
_SHORT_PATH = 0.25  # metres; for shorter paths, the error as a share of the path means nothing
_METRES_PER_RADIAN = 3.0  # weighs turns against moves: how far a turn moves a point at a common distance


@dataclass(frozen=True)
class CameraError:
    """One measured frame: errors are NaN unless solved; `followed` is the share of the commanded motion achieved."""

    frame: int
    found: FoundPose
    rotation_deg: float
    translation: float
    path_length: float
    followed: float

    def record(self) -> dict[str, object]:
        """For the JSON file: None where nothing was solved."""
        solved = self.found.is_solved
        return {
            "frame": self.frame,
            "verdict": self.found.verdict,
            "rot_err_deg": round(self.rotation_deg, 4) if solved else None,
            "trans_err_m": round(self.translation, 4) if solved else None,
            "inliers": round(self.found.inliers, 3),
        }


@dataclass
class CameraAccuracy:
    """All measured frames of some scenes, and their summaries."""

    tracks: list[list[CameraError]] = field(default_factory=list)

    def summary(self, first_frame: int = 1, last_frame: int | None = None) -> dict[str, float | int | None]:
        """Means over the solved frames in a range, and how many frames were solved or failed, and why.

        `trans_share` is the error over the length of the commanded path so far, for paths of at least 0.25 m. A mean
        over nothing is None.
        """
        errors = [e for t in self.tracks for e in t if first_frame <= e.frame <= (last_frame or e.frame)]
        solved = [e for e in errors if e.found.is_solved]
        result: dict[str, float | int | None] = {
            "rot_err_deg": _rounded(statistics.fmean, [e.rotation_deg for e in solved]),
            "rot_err_deg_median": _rounded(statistics.median_low, [e.rotation_deg for e in solved]),
            "trans_err_m": _rounded(statistics.fmean, [e.translation for e in solved]),
            "trans_err_m_median": _rounded(statistics.median_low, [e.translation for e in solved]),
            "trans_share": _rounded(
                statistics.fmean, [e.translation / e.path_length for e in solved if e.path_length >= _SHORT_PATH]
            ),
            "followed": _rounded(statistics.fmean, [e.followed for e in solved if not math.isnan(e.followed)]),
            "frames": len(errors),
        }
        return result | {name: sum(e.found.verdict == name for e in errors) for name in VERDICTS}

    def per_clip(self, num_clips: int, frames_per_clip: int) -> list[dict[str, float | int | None]]:
        """`summary` of every clip."""
        firsts = range(1, 1 + num_clips * frames_per_clip, frames_per_clip)
        return [self.summary(first, first + frames_per_clip - 1) for first in firsts]

    def record(self) -> list[list[dict[str, object]]]:
        """Every frame of every scene, for the JSON file."""
        return [[e.record() for e in track] for track in self.tracks]


def searched(accuracy: CameraAccuracy) -> dict[str, float | None]:
    """The search's figures, under names that differ from those of structure from motion."""
    summary = accuracy.summary()
    frames = int(summary["frames"] or 0)
    return {
        "search_rot_err_deg": summary["rot_err_deg"],
        "search_trans_err_m": summary["trans_err_m"],
        "search_solved_share": int(summary["solved"] or 0) / frames if frames else None,
    }


def usable_pixels(truth: CameraTruth, c2w: Float[Tensor, "f 4 4"], frame_numbers: list[int]) -> Bool[Tensor, "f h w"]:
    """Pixels that must look like the resting scene: the first frame showed them, and no moving object passes them.

    Shadows count as moving. A world may invent what the first frame did not show, so it says nothing about the camera.
    """
    times = torch.tensor(frame_numbers) / truth.fps
    first = torch.eye(4)[None]
    shown = seen_at_start(
        truth.static_depth(c2w), truth.depth(first, torch.zeros(1))[0], c2w, first[0], truth.intrinsics
    )
    return shown & ~_dilated(truth.swept(c2w)) & ~truth.disturbed(c2w, times)


def measure_camera(
    truths: Sequence[CameraTruth],
    frames: UInt8[Tensor, "n f h w 3"],
    poses: Float[Tensor, "n f 4 4"],
    *,
    every: int = 4,
    hide_pose: bool = False,
    config: SearchConfig | None = None,
    label: str = "finding the camera",
) -> CameraAccuracy:
    """Searches every `every`-th frame of each scene round its commanded pose, and with the last search's offset.

    With `hide_pose` the search starts only at `FLOOR_METRES` and `FLOOR_RADIANS` off, in a direction that the seed
    gives: on true frames this measures the floor.
    """
    accuracy = CameraAccuracy()
    for index in tqdm(range(len(truths)), desc=label, unit="scene"):
        accuracy.tracks.append(_measure_scene(truths[index], frames[index], poses[index], every, hide_pose, config))
    return accuracy


def _measure_scene(
    truth: CameraTruth, frames: Tensor, poses: Tensor, every: int, hide_pose: bool, config: SearchConfig | None
) -> list[CameraError]:
    numbers = list(range(every, len(frames), every))
    usable = usable_pixels(truth, poses[numbers], numbers)
    generator = torch.Generator().manual_seed(truth.seed)
    errors: list[CameraError] = []
    path = torch.cat([torch.zeros(1), poses[:, :3, 3].diff(dim=0).norm(dim=-1).cumsum(dim=0)])
    drift = torch.eye(4)  # from commanded to found, at the last frame that was solved
    for row, number in enumerate(numbers):
        commanded = poses[number]
        if hide_pose:
            starts = (commanded @ _offset(generator))[None]
        else:
            moved = se3.log(drift).abs().max() > 0.02
            starts = torch.stack([commanded, commanded @ drift] if moved else [commanded])
        found = find_pose(truth, frames[number], usable[row], starts, config)
        errors.append(_error(number, found, commanded, float(path[number])))
        if found.is_solved:
            drift = se3.relative(commanded, found.c2w)
    return errors


def _error(frame: int, found: FoundPose, commanded: Tensor, path_length: float) -> CameraError:
    if not found.is_solved:
        return CameraError(frame, found, math.nan, math.nan, path_length, math.nan)
    angle = math.degrees(float(se3.rotation_angle(commanded[:3, :3], found.c2w[:3, :3])))
    distance = float((commanded[:3, 3] - found.c2w[:3, 3]).norm())
    weights = torch.tensor([1.0] * 3 + [_METRES_PER_RADIAN] * 3)
    wanted, achieved = se3.log(commanded) * weights, se3.log(found.c2w) * weights
    size = float(wanted.square().sum())
    followed = float((wanted * achieved).sum()) / size if size > 0.05**2 else math.nan
    return CameraError(frame, found, angle, distance, path_length, followed)


def _offset(generator: torch.Generator) -> Float[Tensor, "4 4"]:
    directions = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=-1)
    return se3.exp(torch.cat([directions[0] * FLOOR_METRES, directions[1] * FLOOR_RADIANS]))


def _dilated(mask: Bool[Tensor, "f h w"], radius: int = 1) -> Bool[Tensor, "f h w"]:
    grown = torch.nn.functional.max_pool2d(mask.float()[:, None], 2 * radius + 1, stride=1, padding=radius)
    return grown[:, 0] > 0


def _rounded(measure: Callable[[list[float]], float], values: list[float]) -> float | None:
    return round(measure(values), 4) if values else None
