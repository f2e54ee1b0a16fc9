"""Pictures of the measurements: one sheet per film, and all paths, commanded and found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from model.estimators.optical_flow import OpticalFlow
from model.evaluation.paper.camera_control import CameraControl
from model.evaluation.paper.film_result import FilmResult
from model.whole_file import whole_file

_COLUMNS = 5


def draw_sheet(
    path: Path,
    frames: UInt8[Tensor, "f h w 3"],
    moving: Bool[Tensor, "f h w"],
    flow: OpticalFlow,
    result: FilmResult,
    control: CameraControl | None,
) -> None:
    """Draws frames, their flow with the outline of moving objects, and the found path beside the commanded one."""
    figure = Figure(figsize=(3 * (_COLUMNS + 1), 5), layout="constrained")
    panels = figure.subplots(2, _COLUMNS + 1, squeeze=False)
    chosen = torch.linspace(0, len(frames) - 2, _COLUMNS).round().long().tolist()
    for column, index in enumerate(chosen):
        field = flow(frames[index], frames[index + 1]).numpy()
        panels[0, column].imshow(frames[index].numpy())
        panels[0, column].set_title(f"frame {index}", fontsize=8)
        panels[1, column].imshow(flow_colours(field))
        panels[1, column].set_title(f"flow, at most {np.linalg.norm(field, axis=-1).max():.1f} px", fontsize=8)
        for panel in panels[:, column]:
            if moving[index].any():
                panel.contour(moving[index].numpy(), levels=[0.5], colors="black", linewidths=0.8)
            panel.set_axis_off()
    _draw_path(panels[0, -1], result, control)
    panels[1, -1].set_axis_off()
    panels[1, -1].text(0, 1, _figures(result), va="top", fontsize=8, family="monospace")
    figure.suptitle(result.id, fontsize=9)
    _save(figure, path)


def draw_paths(path: Path, results: Sequence[FilmResult], most: int = 24) -> None:
    """Draws the paths of solved films from above: commanded (line), and found after Sim(3) alignment (dots)."""
    solved = [each for each in results if "found" in each.arrays][:most]
    columns = min(max(len(solved), 1), 6)
    rows = max(1, -(-len(solved) // columns))
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[len(solved) :]:
        panel.set_axis_off()
    for panel, each in zip(panels, solved, strict=False):
        _plot_from_above(panel, each)
        panel.set_title(each.id[:32], fontsize=7)
    _save(figure, path)


def flow_colours(flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w 3"]:
    """Returns colours in [0, 1]: the hue is the direction, the saturation the length as a share of the longest."""
    length = np.linalg.norm(flow, axis=-1)
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1.0
    return np.asarray(hsv_to_rgb(np.stack((hue, length / max(float(length.max()), 1e-6), np.ones_like(hue)), axis=-1)))


def _draw_path(panel: Any, result: FilmResult, control: CameraControl | None) -> None:
    if "found" in result.arrays:
        _plot_from_above(panel, result)
        return
    said = "not asked for" if control is None else control.unsolved or "solved; no path to compare with"
    panel.text(0.5, 0.5, said, ha="center", va="center", wrap=True, fontsize=8)
    panel.set_axis_off()


def _plot_from_above(panel: Any, result: FilmResult) -> None:
    wanted, found = (result.arrays[name][:, :3, 3] for name in ("wanted", "found"))
    panel.plot(wanted[:, 0], wanted[:, 2], color="0.6", label="commanded")
    panel.plot(found[:, 0], found[:, 2], ".", markersize=3, label="found, aligned")
    panel.axis("equal")
    panel.legend(fontsize=6)
    panel.tick_params(labelsize=6)


def _figures(result: FilmResult) -> str:
    return "\n".join(f"{name:20} {value:8.3f}" for name, value in result.metrics.items())


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as partial:
        FigureCanvasAgg(figure).print_figure(partial, dpi=80)
