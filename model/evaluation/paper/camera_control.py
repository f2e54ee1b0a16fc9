"""TransErr, RotErr and geometric consistency: structure from motion's camera against the commanded camera.

Source: the paper, Sec. 4.2, which does not say when a clip counts as solved; ours: it is solved if its path could label
training data: enough frames have a pose on enough points, and every step agrees with the flow and with the epipolar
geometry of its two pictures (`model.curation.steps.verify_path`). Without the second condition, wrong paths that fit
their own points would count as solved, with any error.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.curation.poses import PosesConfig
from model.curation.scale import ScaleConfig, metric_scale, rescale
from model.curation.shots import ClipFrames
from model.curation.steps import StepLog, Tools, verify_path
from model.estimators.sfm import Reconstruction, ReconstructionFailed
from model.geometry.alignment import similarity, trajectory_errors, transform


@dataclass(frozen=True)
class CameraControl:
    """The result for one film; errors are None if it is not solved, or if there is no path to compare with.

    Attributes:
        unsolved: Why structure from motion does not count as successful, with the numbers; empty if it does.
        trans_err: Mean distance between the cameras' centres after Sim(3) alignment, in the unit of the given path.
        rot_err_deg: Mean angle between the cameras' orientations after the same alignment, degrees.
        trans_err_metric: Mean distance in metres without free scale: a depth network gives the found path its metric
            scale, and only rotation and translation are aligned. None without such a network.
        aligned: The found path in the given path's world frame; only the frames that have a pose.
        frames: The numbers of these frames.
    """

    unsolved: str
    trans_err: float | None = None
    rot_err_deg: float | None = None
    trans_err_metric: float | None = None
    aligned: Float[Tensor, "k 4 4"] | None = None
    frames: tuple[int, ...] = ()


def camera_control(
    clip: ClipFrames,
    moving: Bool[Tensor, "f h w"],
    reference: Float[Tensor, "f 4 4"] | None,
    lens: Float[Tensor, "4"] | None,
    tools: Tools,
    criterion: PosesConfig,
) -> CameraControl:
    """Returns whether a film is solved, and the errors of its path.

    Args:
        clip: The film.
        moving: Pixels that must not be used.
        reference: The commanded pose of every frame; None: no errors are measured.
        lens: The known lens, normalised; None: it is estimated.
        tools: Estimators.
        criterion: When a film counts as solved.
    """
    unsolved = ""
    for attempt in tools.in_turn():
        try:
            found = attempt.sfm(clip.frames, moving, lens)
        except ReconstructionFailed as failure:
            unsolved = str(failure)
            continue
        solved, _, unsolved = verify_path(clip.frames, moving, found, tools.flow, criterion, StepLog())
        if not unsolved:
            break
    if unsolved:
        return CameraControl(unsolved)
    if reference is None:
        return CameraControl("")
    known = solved.registered
    path, wanted = solved.c2w[known], reference[known]
    errors = trajectory_errors(path, wanted)
    return CameraControl(
        "",
        errors.trans_err,
        errors.rot_err,
        _metric_error(clip, solved, wanted, tools),
        transform(path.double(), *similarity(path, wanted)).float(),
        tuple(known.nonzero()[:, 0].tolist()),
    )


def _metric_error(clip: ClipFrames, solved: Reconstruction, wanted: Tensor, tools: Tools) -> float | None:
    if tools.depth is None or (scale := metric_scale(clip.frames, solved, tools.depth, ScaleConfig())) is None:
        return None
    return trajectory_errors(rescale(solved.c2w[solved.registered], scale.scale), wanted, with_scale=False).trans_err


def path_length(c2w: Float[Tensor, "f 4 4"]) -> float:
    """Returns the length of the camera's path, in the path's unit: TransErr grows with it."""
    return float(torch.linalg.vector_norm(c2w[:, :3, 3].diff(dim=0), dim=-1).sum())
