"""Measures whether objects keep their colour and size while the camera moves: blobs are followed and compared.

Needs the optional extra `evaluation` (OpenCV's connected components).

Source: ours, because a film of sharp frames can still flicker or melt, and no measure of single frames shows that.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from model.evaluation.objects import background_frames, foreground_mask
from model.evaluation.truth import SceneTruth

_FRAME_STEP = 2  # frames between the two that are compared
_LEAST_PIXELS = 24  # of a blob, on both sides
_LEAST_OVERLAP = 0.5  # of the smaller blob's pixels


@dataclass
class BlobChanges:
    """Changes of one clip's blobs that were found again, in grey levels and octaves of area; number of all blobs."""

    colour: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    num_followed: int = 0

    def compare(
        self,
        first: UInt8[Tensor, "h w 3"],
        second: UInt8[Tensor, "h w 3"],
        covered: tuple[Bool[Tensor, "h w"], Bool[Tensor, "h w"]],
    ) -> None:
        """Follows every whole blob of `first` to `second`; one that touches the picture's edge is not whole."""
        labels, later = blobs(covered[0]), blobs(covered[1])
        for number in range(1, int(labels.max()) + 1):
            here = labels == number
            self.num_followed += 1
            overlaps = torch.bincount(later[here], minlength=2)[1:]
            match = int(overlaps.argmax()) + 1
            there = later == match
            area, area_there = int(here.sum()), int(there.sum())
            if int(overlaps[match - 1]) < _LEAST_OVERLAP * min(area, area_there) or not area_there:
                continue
            difference = first[here].float().mean(dim=0) - second[there].float().mean(dim=0)
            self.colour.append(float(difference.abs().mean()))
            self.size.append(abs(float(np.log2(area_there / area))))

    def summary(self) -> dict[str, float | None]:
        """`colour` (grey levels), `size` (octaves of area), `found` (share); None where there was no blob."""
        return {
            "colour": round(float(np.mean(self.colour)), 4) if self.colour else None,
            "size": round(float(np.mean(self.size)), 4) if self.size else None,
            "found": round(len(self.colour) / self.num_followed, 4) if self.num_followed else None,
        }


def blobs(covered: Bool[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """Numbers 1, 2, ... of the connected blobs of at least 24 pixels that do not touch the picture's edge; else 0."""
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(covered.numpy().astype(np.uint8), connectivity=8)
    left, top, width, height, area = statistics.T
    inside = (left > 0) & (top > 0) & (left + width < covered.shape[1]) & (top + height < covered.shape[0])
    whole = inside & (area >= _LEAST_PIXELS)
    whole[0] = False  # what is not covered
    numbers = np.where(whole, np.cumsum(whole), 0)
    return torch.from_numpy(numbers[labels])


def measure_steadiness(
    truths: list[SceneTruth],
    films: dict[str, UInt8[Tensor, "n f h w 3"]],
    poses: Float[Tensor, "n f 4 4"],
    frames_per_clip: int,
) -> dict[str, object]:
    """Per film and clip, pooled over scenes: change of a blob's colour and area in two frames, and the share found.

    Frames two apart are compared, within a clip and across its seam with the clip before. Objects that move, turn or
    hide each other change in true films, too: the true films' values are the floor.
    """
    at = torch.arange(0, poses.shape[1], _FRAME_STEP)
    backdrop = background_frames(truths, poses[:, at])
    pairs_per_clip = frames_per_clip // _FRAME_STEP
    section: dict[str, object] = {}
    for name, film in films.items():
        frames = film[:, at]
        covered = foreground_mask(frames, backdrop)
        clips = [BlobChanges() for _ in range((len(at) - 1) // pairs_per_clip)]
        for scene in range(len(frames)):
            for k in range(len(clips) * pairs_per_clip):
                pair = (covered[scene, k], covered[scene, k + 1])
                clips[k // pairs_per_clip].compare(frames[scene, k], frames[scene, k + 1], pair)
        rows = [clip.summary() for clip in clips]
        section[name] = {key: [row[key] for row in rows] for key in ("colour", "size", "found")}
    return section
