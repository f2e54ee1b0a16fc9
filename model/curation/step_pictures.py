"""Pictures of every curation step's result for one clip: flow, mask, sparse points with the path, depth."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from model.curation.poses import fill_gaps
from model.curation.scale import SceneScale, depth_pairs, metric_scale
from model.curation.shots import ClipFrames
from model.curation.steps import StepsConfig, Tools, known_lens, moving_pixels
from model.estimators.sfm import Reconstruction


def step_pictures(folder: str | Path, clip: ClipFrames, tools: Tools, config: StepsConfig) -> list[Path]:
    """Writes `flow.png`, `mask.png`, `points.png` and, where metric depth is known, `depth.png`; returns them.

    Raises:
        ReconstructionFailed: the clip has no poses; flow and mask are written before.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    middle = len(clip.frames) // 2
    moving = moving_pixels(clip.frames, tools)
    flow = tools.flow(clip.frames[middle], clip.frames[min(middle + 1, len(clip.frames) - 1)])
    written = [folder / "flow.png", folder / "mask.png", folder / "points.png"]
    _side_by_side(written[0], clip.frames[middle], flow_colours(flow), "dense flow: hue is direction, colour length")
    _side_by_side(written[1], clip.frames[middle], overlay(clip.frames[middle], moving[middle]), "what moves by itself")
    lens = known_lens(clip.frames, config.horizontal_fov_deg)
    reconstruction = tools.sfm(clip.frames, moving if tools.mask is not None else None, lens)
    scale = None if tools.depth is None else metric_scale(clip.frames, reconstruction, tools.depth, config.scale)
    _draw_points(written[2], reconstruction, 1.0 if scale is None else scale.scale, scale is not None)
    if scale is not None:
        assert tools.depth is not None
        written.append(folder / "depth.png")
        pairs = {index: depth_pairs(clip.frames, reconstruction, tools.depth, index) for index in scale.frames}
        _draw_depth(written[3], scale, pairs)
    return written


def flow_colours(flow: Float[Tensor, "h w 2"]) -> UInt8[Tensor, "h w 3"]:
    """Returns hue for direction and saturation for length, up to its 98 % quantile."""
    length = flow.norm(dim=-1)
    longest = float(length.flatten().quantile(0.98)) or 1.0
    hue = (torch.atan2(flow[..., 1], flow[..., 0]) / (2 * torch.pi)) % 1
    hsv = torch.stack((hue, (length / longest).clamp(max=1), torch.ones_like(hue)), dim=-1)
    return torch.from_numpy((hsv_to_rgb(hsv.numpy()) * 255).round().astype(np.uint8))


def overlay(frame: UInt8[Tensor, "h w 3"], mask: Bool[Tensor, "h w"]) -> UInt8[Tensor, "h w 3"]:
    """Returns the frame with the mask in red."""
    red = torch.tensor([255.0, 40.0, 40.0])
    return torch.where(mask[..., None], 0.4 * frame.float() + 0.6 * red, frame.float()).round().to(torch.uint8)


def _side_by_side(path: Path, left: Tensor, right: Tensor, title: str) -> None:
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    for axis, picture, name in zip(figure.subplots(1, 2), (left, right), ("frame", title), strict=True):
        axis.imshow(picture.numpy())
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


def _draw_points(path: Path, reconstruction: Reconstruction, scale: float, is_metric: bool) -> None:
    """Draws the path and the points from above and from the right, in the first camera's axes."""
    camera = fill_gaps(reconstruction).rebase()
    first = reconstruction.c2w[int(reconstruction.registered.nonzero()[0, 0])]
    points = (reconstruction.points - first[:3, 3]) @ first[:3, :3] * scale
    centres = camera.c2w[:, :3, 3] * scale
    near = points[:, 2] < 1.5 * points[:, 2].quantile(0.9)
    unit = "m" if is_metric else "units"
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    for axis, across, name in zip(figure.subplots(1, 2), (0, 1), ("right", "down"), strict=True):
        axis.scatter(points[near, 2], points[near, across], s=1, color="grey", rasterized=True, label="points")
        axis.plot(centres[:, 2], centres[:, across], color="tab:red", marker=".", markersize=3, label="camera")
        axis.set_xlabel(f"ahead, {unit}")
        axis.set_ylabel(f"{name}, {unit}")
        axis.invert_yaxis()
        axis.set_aspect("equal", adjustable="datalim")
    figure.axes[0].legend(fontsize=7, markerscale=3)
    figure.savefig(path, dpi=90)


def _draw_depth(path: Path, scale: SceneScale, pairs: dict[int, tuple[Tensor, Tensor]]) -> None:
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes: tuple[Axes, Axes] = figure.subplots(1, 2)
    for sparse, metric in pairs.values():
        axes[0].scatter(scale.scale * sparse, metric, s=2, alpha=0.4, color="tab:blue", rasterized=True)
    farthest = max(float((scale.scale * sparse).quantile(0.98)) for sparse, _ in pairs.values())
    axes[0].plot([0, farthest], [0, farthest], color="black", linewidth=1)
    axes[0].set(xlim=(0, farthest), ylim=(0, 2 * farthest), xlabel="scale x SfM depth, m", ylabel="metric depth, m")
    axes[1].plot(list(scale.frames), list(scale.frames.values()), "o", color="tab:blue")
    axes[1].axhline(scale.scale, color="black", linewidth=1)
    axes[1].set(xlabel="keyframe", ylabel="metres per unit", title=f"spread {100 * scale.spread:.1f} %")
    axes[1].set_ylim(0, 1.5 * scale.scale)
    figure.savefig(path, dpi=90)
