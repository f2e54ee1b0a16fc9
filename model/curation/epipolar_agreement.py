"""Does each step of a path agree with the two pictures' own epipolar geometry, also where it has no sparse points?"""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.estimators.motion_mask import reliable_flow
from model.estimators.optical_flow import OpticalFlow
from model.estimators.sfm import Reconstruction
from model.estimators.static_scene import StaticScene, fit_static_scene
from model.geometry import se3

_OFF = 1.0  # pixels off the epipolar line, per 320 of the width
_FEWEST = 500  # pixels of reliable flow, without which nothing is asked
_STANDS = 1e-3  # of the path's median step: a camera that stands has no epipolar geometry


def epipolar_excess(
    frames: UInt8[Tensor, "f h w 3"], moving: Bool[Tensor, "f h w"], solved: Reconstruction, flow: OpticalFlow
) -> Float[Tensor, " f"]:
    """Returns, for the step to each frame, how many more pixels the path leaves off their line than the pictures must.

    The share of reliable, static pixels whose flow ends farther than a pixel from the epipolar line of the path and
    its lens, less the same share for the geometry that fits these pixels best. 0 where no step ends (at the first
    frame with a pose, at frames without one), where the camera stands, and where too little flow is reliable.

    Structure from motion may follow one surface, or repeated texture, and lose the rest of the scene: its own points
    agree with it, the other pixels do not.

    Source: ours; H. C. Longuet-Higgins, A computer algorithm for reconstructing a scene from two projections, 1981.
    """
    excess = torch.zeros(len(frames))
    known = solved.registered.nonzero()[:, 0].tolist()
    shortest = _STANDS * float(solved.c2w[known, :3, 3].diff(dim=0).norm(dim=-1).median()) if len(known) > 1 else 0.0
    for before, after in pairwise(known):
        relative = se3.relative(solved.c2w[after], solved.c2w[before])
        if float(relative[:3, 3].norm()) <= shortest:
            continue
        forth, usable = reliable_flow(frames[before], frames[after], flow)
        usable &= ~moving[before].numpy()
        if usable.sum() < _FEWEST:
            continue
        path = StaticScene(fundamental_matrix(relative, solved.intrinsics, *frames.shape[1:3]), False)
        pictures = fit_static_scene(forth, usable)
        excess[after] = _share_off(path, forth, usable) - _share_off(pictures, forth, usable)
    return excess.clamp(min=0)


def fundamental_matrix(
    relative: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "4"], height: int, width: int
) -> Float[np.ndarray, "3 3"]:
    """Returns F with p_after^T F p_before = 0, pixels counted from the first pixel's centre.

    Args:
        relative: The earlier camera's pose in the axes of the later one.
        intrinsics: Of both, normalised.
        height: Pixels.
        width: Pixels.
    """
    pose, (fx, fy, cx, cy) = relative.double().numpy(), intrinsics.double().tolist()
    x, y, z = pose[:3, 3]
    essential = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ pose[:3, :3]
    camera = np.array([[fx * width, 0, cx * width - 0.5], [0, fy * height, cy * height - 0.5], [0, 0, 1]])
    inverse = np.linalg.inv(camera)
    return np.asarray(inverse.T @ essential @ inverse)


def epipolar_rejection(excess: Float[Tensor, " f"], largest: float) -> str:
    """Returns which steps do not agree with the pictures' epipolar geometry, by the worst; empty if all do."""
    off = (excess > largest).nonzero()[:, 0].tolist()
    if not off:
        return ""
    worst = int(excess.argmax())
    return (
        f"{len(off)} steps of the path leave pixels off their epipolar lines; the one to frame {worst} "
        f"{100 * float(excess[worst]):.0f} % more than the two pictures must"
    )


def _share_off(scene: StaticScene, forth: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    residual = scene.nearest(forth.astype(np.float64)).residual[usable]
    return float((residual * (320 / forth.shape[1]) > _OFF).mean())
