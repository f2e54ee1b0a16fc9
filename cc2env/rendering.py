"""Pictures of an episode: a contact sheet of its clips, and the camera's path from above."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK = (18, 20, 26), (226, 228, 232)


def contact_sheet(
    clips: Sequence[UInt8[np.ndarray, "f h w 3"]],
    labels: Sequence[str] | None = None,
    columns: int = 8,
    frame_width: int = 160,
) -> Image.Image:
    """Returns a grid with a labelled row for each clip: `columns` evenly spaced frames, always with the last one.

    Raises:
        ValueError: There is no clip, or there are more or fewer labels than clips.
    """
    if not clips:
        raise ValueError("clips: expected at least one clip, got none; fly first")
    if labels is not None and len(labels) != len(clips):
        raise ValueError(f"labels: expected {len(clips)}, one for each clip, got {len(labels)}")
    columns = min(columns, max(len(clip) for clip in clips))
    height, width = clips[0].shape[1:3]
    tile = (frame_width, round(frame_width * height / width))
    gap, strip = 6, 22
    row_height = tile[1] + strip + gap
    sheet = Image.new("RGB", (columns * (tile[0] + gap) + gap, len(clips) * row_height + gap), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for row, clip in enumerate(clips):
        top = gap + row * row_height
        label = f"clip {row + 1}" if labels is None else labels[row]
        draw.text((gap, top + 1), label, fill=_INK, font=font)
        # The last frame of every group, so that a row ends on its clip's last frame.
        chosen = np.ceil(np.arange(1, columns + 1) * len(clip) / columns).astype(int) - 1
        for column, index in enumerate(chosen):
            picture = Image.fromarray(clip[index]).resize(tile, Image.Resampling.BICUBIC)
            sheet.paste(picture, (gap + column * (tile[0] + gap), top + strip))
    return sheet


def trajectory_picture(
    c2w: Float[np.ndarray, "f 4 4"],
    intrinsics: Float[np.ndarray, "4"],
    seconds_per_pose: float = 1 / 3,
    title: str = "Camera path from above",
) -> Image.Image:
    """Returns a plan of the path (x right, z up the page, metres) with each pose's view, and its height over time."""
    figure = Figure(figsize=(8, 9), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    plan, profile = figure.subplots(2, 1, height_ratios=[5, 1])
    seconds = np.arange(len(c2w)) * seconds_per_pose
    _draw_plan(plan, c2w, float(intrinsics[0]), seconds, title)
    profile.plot(seconds, -c2w[:, 1, 3], color="tab:blue", linewidth=2)
    profile.set(xlabel="time (s)", ylabel="height (m)", xlim=(0, max(float(seconds[-1]), seconds_per_pose)))
    lowest = min(-0.5, float((-c2w[:, 1, 3]).min()) * 1.1)
    profile.set_ylim(lowest, max(0.5, float((-c2w[:, 1, 3]).max()) * 1.1))
    profile.grid(alpha=0.3)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw_plan(axes: Axes, c2w: np.ndarray, fx: float, seconds: np.ndarray, title: str) -> None:
    centres = c2w[:, :3, 3][:, [0, 2]]
    extent = max(float(np.ptp(centres, axis=0).max()), 1.0)
    frusta = _frusta(c2w, fx, depth=0.09 * extent)
    shown = slice(None, None, max(1, len(c2w) // 20))  # more would hide each other
    views = PolyCollection(list(frusta[shown]), cmap="viridis", alpha=0.22, edgecolor="face", linewidth=0.8)
    views.set_array(seconds[shown])
    axes.add_collection(views)
    path = LineCollection(list(np.stack([centres[:-1], centres[1:]], axis=1)), cmap="viridis", linewidth=2.5)
    path.set_array(seconds[1:])
    axes.add_collection(path)
    axes.plot(*centres[0], "o", color="black", markersize=9, label="start", zorder=5)
    axes.plot(*centres[-1], "s", color="crimson", markersize=8, label="end", zorder=5)
    corners = np.concatenate([frusta.reshape(-1, 2), centres])
    middle, half = (corners.max(0) + corners.min(0)) / 2, 0.55 * float(np.ptp(corners, axis=0).max())
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set(aspect="equal", xlabel="x, right (m)", ylabel="z, forward (m)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    bar = axes.figure.colorbar(path, ax=axes, shrink=0.8)
    bar.set_label("time (s)")


def _frusta(c2w: np.ndarray, fx: float, depth: float) -> Float[np.ndarray, "f 3 2"]:
    """The triangle of view of each pose, seen from above: the centre and both ends of its horizontal field."""
    half_width = depth * 0.5 / fx
    corners = np.array([[0, 0, 0, 1], [-half_width, 0, depth, 1], [half_width, 0, depth, 1]], dtype=c2w.dtype)
    triangles: np.ndarray = np.einsum("fij,kj->fki", c2w, corners)[..., [0, 2]]
    return triangles
