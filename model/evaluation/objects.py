"""Objects in generated frames, also those that come into view later: how much of the picture they cover, and how
sharp they are.

Source: ours, because PSNR cannot judge what the first frame does not show: there it rewards the mean of all
possibilities, a smudge.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.data.clips import FRAMES_PER_LATENT
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import brightness, ratios

# Grey levels of the largest colour difference, ours: the VAE's own error is mostly smaller, as its floor shows.
_OFF_BACKDROP = 24


def background_frames(truths: list[SceneTruth], poses: Float[Tensor, "n f 4 4"]) -> UInt8[Tensor, "n f h w 3"]:
    """The scenes without any object, from the same cameras: sky, ground and light."""
    return torch.stack([truth.backdrop(path) for truth, path in zip(truths, poses, strict=True)])


@dataclass(frozen=True)
class ObjectCover:
    """Per clip, pooled over scenes and frames: pixels that objects cover, and the mean brightness gradient in them, in
    grey levels a pixel; NaN where there is no such pixel."""

    pixels: Float[Tensor, " clips"]
    gradient: Float[Tensor, " clips"]

    @classmethod
    def of_frames(
        cls, frames: UInt8[Tensor, "n f h w 3"], backdrop: UInt8[Tensor, "n f h w 3"], frames_per_clip: int
    ) -> "ObjectCover":
        """Measures whole clips of `frames_per_clip` frames, without the episode's first frame."""
        covered = foreground_mask(frames, backdrop)
        light = brightness(frames) * 255
        slope = torch.nn.functional.pad((light[..., 1:] - light[..., :-1]).abs(), (0, 1))
        pixels = _sum_per_clip(covered.float(), frames_per_clip)
        return cls(pixels, _sum_per_clip(slope * covered, frames_per_clip) / pixels)

    def relative_to(self, true: "ObjectCover") -> dict[str, list[float | None]]:
        """`share` and `edges`, each generated / true per clip; None where either has no object to measure.

        A share above 1 means clutter, or a camera or colours that have drifted; a share below 1 means missing objects.
        Edges below 1 are smudges, edges above 1 are oversharpened.
        """
        return {"share": ratios(self.pixels, true.pixels), "edges": ratios(self.gradient, true.gradient)}


def foreground_mask(frames: UInt8[Tensor, "*b h w 3"], backdrop: UInt8[Tensor, "*b h w 3"]) -> Bool[Tensor, "*b h w"]:
    """Pixels that differ from the empty scene by more than 24 grey levels in some colour."""
    return (frames.int() - backdrop.int()).abs().amax(dim=-1) > _OFF_BACKDROP


def measure_objects(
    truths: list[SceneTruth],
    films: dict[str, UInt8[Tensor, "n f h w 3"]],
    true: UInt8[Tensor, "n f h w 3"],
    poses: Float[Tensor, "n f 4 4"],
    frames_per_clip: int,
) -> dict[str, object]:
    """For every film along `poses`, the ratios of `ObjectCover.relative_to`, at every fourth frame (one per latent).

    The control `backdrop`, the empty scene itself, has share 0 by definition; `true_share` is the share of all pixels
    that objects cover in the true frames.
    """
    at = torch.arange(FRAMES_PER_LATENT, true.shape[1], FRAMES_PER_LATENT)
    backdrop = background_frames(truths, poses[:, at])
    per_clip = frames_per_clip // FRAMES_PER_LATENT
    cover = ObjectCover.of_frames(true[:, at], backdrop, per_clip)
    all_pixels = true[:, at, ..., 0].numel() / len(cover.pixels)
    sampled = {name: frames[:, at] for name, frames in films.items()} | {"backdrop": backdrop}
    section: dict[str, object] = {
        name: ObjectCover.of_frames(frames, backdrop, per_clip).relative_to(cover) for name, frames in sampled.items()
    }
    return section | {"true_share": [round(v, 4) for v in (cover.pixels / all_pixels).tolist()]}


def _sum_per_clip(values: Float[Tensor, "n f h w"], frames_per_clip: int) -> Float[Tensor, " clips"]:
    return values.sum(dim=(2, 3)).unflatten(1, (-1, frames_per_clip)).sum(dim=(0, 2))
