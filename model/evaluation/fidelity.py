"""Fidelity, separately over pixels that the world saw before, newly revealed pixels and moving objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model.evaluation.perceptual import PerceptualDistance
from model.evaluation.truth import CameraTruth
from model.evaluation.video_quality import contrast, masked_psnr, psnr, sharpness, ssim_map
from model.evaluation.visibility import seen_at_start, seen_before_clip


@dataclass(frozen=True)
class Regions:
    """Masks of the true frames' pixels: resting and seen before the clip, resting and new, or moving.

    `known`: resting, and the first frame, which the world was given, showed the surface.
    """

    known: Bool[Tensor, "n f h w"]
    seen: Bool[Tensor, "n f h w"]
    revealed: Bool[Tensor, "n f h w"]
    moving: Bool[Tensor, "n f h w"]


def find_regions(truths: Sequence[CameraTruth], poses: Float[Tensor, "n f 4 4"], frames_per_clip: int) -> Regions:
    """Finds the regions by reprojection of the renderer's depth."""
    parts = []
    for truth, path in zip(truths, poses, strict=True):
        times = torch.arange(len(path)) / truth.fps
        full = truth.clip(path, times)
        resting = truth.static_depth(path)
        seen = seen_before_clip(resting, full.depth, path, truth.intrinsics, frames_per_clip)
        known = seen_at_start(resting, full.depth[0], path, path[0], truth.intrinsics)
        moving = full.moving_mask
        parts.append((known & ~moving, seen & ~moving, ~seen & ~moving, moving))
    return Regions(*(torch.stack(masks) for masks in zip(*parts, strict=True)))


def fidelity_per_clip(
    frames: UInt8[Tensor, "n f h w 3"],
    truth: UInt8[Tensor, "n f h w 3"],
    regions: Regions,
    frames_per_clip: int,
    lpips: PerceptualDistance | None = None,
) -> dict[str, list[float | None]]:
    """PSNR (dB) and SSIM per clip over all pixels in all scenes and over those of each kind, the shares of the kinds,
    and the ratios generated / true of sharpness and contrast (they fall if the picture washes out); `error_*` is
    the kind's share of the whole squared error, None where there is none; `lpips` adds its own row.

    PSNR is of pooled pixels, not the mean over scenes: a scene with few new pixels must not weigh as much as others.
    Compare the kinds with `psnr_pooled`, of all pixels: it lies below the oracle's mean over scenes.
    """
    rows: dict[str, list[float | None]] = {}
    kinds = {"known": regions.known, "seen": regions.seen, "revealed": regions.revealed, "moving": regions.moving}
    for first in range(1, truth.shape[1], frames_per_clip):
        clip = slice(first, first + frames_per_clip)
        ours, true = frames[:, clip], truth[:, clip]
        ssim = torch.stack([ssim_map(a, b) for a, b in zip(ours, true, strict=True)])
        row = {"psnr_pooled": psnr(ours.flatten(0, 1), true.flatten(0, 1)), "ssim": ssim.mean()}
        if lpips is not None:
            row["lpips"] = torch.tensor(lpips(ours, true))
        for name, measure in (("sharpness", sharpness), ("contrast", contrast)):
            row[f"{name}_ratio"] = measure(ours).mean() / measure(true).mean().clamp(min=1e-6)
        error = (ours.float() - true.float()).square().mean(dim=-1)
        for name, masks in kinds.items():
            mask = masks[:, clip]
            row[f"error_{name}"] = (error * mask).sum() / error.sum()
            row[f"psnr_{name}"] = torch.tensor(masked_psnr(ours, true, mask))
            row[f"ssim_{name}"] = ssim[mask].mean()
            row[f"share_{name}"] = mask.float().mean()
        for name, value in row.items():
            rows.setdefault(name, []).append(None if value.isnan() else round(float(value), 4))
    return rows
