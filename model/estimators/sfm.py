"""Camera paths from pictures alone: a protocol, and an adapter for COLMAP's structure from motion."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from model.geometry.camera import project
from model.optional_dependency import missing_package

Mapper = Literal["incremental", "global"]
_WORKER = Path(__file__).with_name("colmap_worker.py")


class ReconstructionFailed(Exception):
    """A clip has no reconstruction; the message says why, in one line for the ledger."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reconstruction:
    """Poses and sparse points of one clip, in their own world frame and unit of length (a later step finds metres).

    Attributes:
        registered: Frames that have a pose.
        c2w: Poses; the identity where there is none.
        intrinsics: fx, fy, cx, cy, normalised, of the one lens that all frames share.
        points: Sparse points of the static scene.
        frame_of: The frame of every observation of a point, sorted.
        point_of: The index of the point that is observed.
        pixels: Where it is observed: (x, y), pixels from the upper left corner, so that a pixel's centre is at +0.5.
        reprojection_error: Mean distance in pixels between observed and projected points.
        lens_deviation: Standard deviation of the focal length, divided by it; 0 if the lens was given. It is large if
            the path does not determine the lens, as on a straight line without a turn.
    """

    registered: Bool[Tensor, " f"]
    c2w: Float[Tensor, "f 4 4"]
    intrinsics: Float[Tensor, "4"]
    points: Float[Tensor, "p 3"]
    frame_of: Int[Tensor, " o"]
    point_of: Int[Tensor, " o"]
    pixels: Float[Tensor, "o 2"]
    reprojection_error: float
    lens_deviation: float = 0.0

    @property
    def num_observations(self) -> Int[Tensor, " f"]:
        """How many points each frame sees: the inliers of its pose."""
        return torch.bincount(self.frame_of, minlength=len(self.registered))

    def sparse_depth(self, frame: int) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
        """Returns where a frame sees points (pixels, as `pixels`) and their z-depth in the reconstruction's unit."""
        rows = self.frame_of == frame
        _, depth = project(self.points[self.point_of[rows]], self.c2w[frame], self.intrinsics)
        return self.pixels[rows], depth


@runtime_checkable
class StructureFromMotion(Protocol):
    """Estimates the poses of one clip's frames: COLMAP here; VGGSfM or VGGT with an adapter of a few lines."""

    def __call__(
        self,
        frames: UInt8[Tensor, "f h w 3"],
        masks: Bool[Tensor, "f h w"] | None,
        intrinsics: Float[Tensor, "4"] | None,
    ) -> Reconstruction:
        """Returns the reconstruction.

        Args:
            frames: In order of time.
            masks: True on moving objects, which are not used.
            intrinsics: The known lens, normalised, which is kept; None: the lens is estimated.

        Raises:
            ReconstructionFailed: the clip has no reconstruction.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ColmapSfM:
    """SIFT on the CPU, sequential matching, then incremental (COLMAP) or global (GLOMAP) mapping.

    The result depends on the seed; it is reproducible bit for bit if `num_threads` is 1.

    Attributes:
        mapper: "incremental" is slower; "global" (GLOMAP) does not depend on a first pair.
        overlap: Each frame is matched with this many next ones, and with those at powers of two farther on.
        max_features: Most keypoints per frame; the largest are kept.
        peak_threshold: Contrast of the faintest keypoint; COLMAP's own 0.0067 finds too few in small soft films.
        max_error: Pixels that a match or a point may be off, per 640 of the width (never below 0.5).
        init_angle: Degrees between the rays of the first pair; short clips do not reach COLMAP's own 16.
        num_threads: -1: all cores.
        seed: Seed of every RANSAC.
        timeout: Seconds after which a clip is given up.

    Raises:
        ValueError: pycolmap is not installed.

    Source: the paper takes VGGSfM (Sec. 3.2); ours, because COLMAP needs no weights and no GPU.
    """

    mapper: Mapper = "incremental"
    overlap: int = 10
    max_features: int = 4096
    peak_threshold: float = 0.001
    max_error: float = 2.0
    init_angle: float = 4.0
    num_threads: int = -1
    seed: int = 0
    timeout: float = 1800.0

    def __call__(
        self,
        frames: UInt8[Tensor, "f h w 3"],
        masks: Bool[Tensor, "f h w"] | None,
        intrinsics: Float[Tensor, "4"] | None,
    ) -> Reconstruction:
        """Returns the largest model; see `StructureFromMotion`."""
        if importlib.util.find_spec("pycolmap") is None:  # not imported here: its libraries clash with others'
            raise ValueError(missing_package("pycolmap"))
        if masks is not None and masks.shape != frames.shape[:3]:
            raise ValueError(f"masks: expected shape {list(frames.shape[:3])}, got {list(masks.shape)}")
        with tempfile.TemporaryDirectory(prefix="colmap-") as name:
            folder = Path(name)
            _write_pictures(folder, frames, masks)
            (folder / "job.json").write_text(json.dumps(self._job(frames, masks is not None, intrinsics)))
            self._run(folder)
            return _read_result(folder, frames.shape[1], frames.shape[2])

    def _job(self, frames: Tensor, masked: bool, intrinsics: Tensor | None) -> dict[str, Any]:
        height, width = frames.shape[1:3]
        sides = torch.tensor([width, height] * 2)
        lens: list[float] = [] if intrinsics is None else (intrinsics.cpu().double() * sides).tolist()
        return dataclasses.asdict(self) | {
            "num_frames": len(frames),
            "masked": masked,
            "camera_model": "SIMPLE_PINHOLE" if intrinsics is None else "PINHOLE",
            "camera_params": lens,
            "max_error": max(0.5, self.max_error * width / 640),
        }

    def _run(self, folder: Path) -> None:
        command = [sys.executable, "-P", str(_WORKER), str(folder)]
        with (folder / "log.txt").open("w+") as log:
            try:
                code = subprocess.run(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=self.timeout, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                raise ReconstructionFailed(f"COLMAP was not done after {self.timeout:g} s") from None
            if code:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no message"])[-1]
                raise ReconstructionFailed(f"COLMAP ended with code {code}: {last[:200]}")


def _write_pictures(folder: Path, frames: Tensor, masks: Tensor | None) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for index, frame in enumerate(frames.cpu().numpy()):
        Image.fromarray(frame).save(folder / "images" / f"{index:06d}.png", compress_level=1)
    for index, mask in enumerate([] if masks is None else masks.cpu().numpy()):
        # COLMAP finds no keypoints where its mask is black
        black = np.where(mask, np.uint8(0), np.uint8(255))
        Image.fromarray(black).save(folder / "masks" / f"{index:06d}.png.png", compress_level=1)


def _read_result(folder: Path, height: int, width: int) -> Reconstruction:
    with np.load(folder / "result.npz", allow_pickle=False) as result:
        if not int(result["num_models"]):
            keypoints, pairs = int(result["num_keypoints"]), int(result["num_pairs"])
            raise ReconstructionFailed(f"no model: {keypoints} keypoints, {pairs} pairs of frames agree")
        arrays = {name: torch.from_numpy(result[name]) for name in result.files if result[name].ndim}
        error, lens_deviation = float(result["reprojection_error"]), float(result["lens_deviation"])
    return Reconstruction(
        registered=arrays["registered"],
        c2w=arrays["c2w"].float(),
        intrinsics=(arrays["lens"] / torch.tensor([width, height, width, height])).float(),
        points=arrays["points"].float(),
        frame_of=arrays["frame_of"],
        point_of=arrays["point_of"],
        pixels=arrays["pixels"].float(),
        reprojection_error=error,
        lens_deviation=lens_deviation,
    )
