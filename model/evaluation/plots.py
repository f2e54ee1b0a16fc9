"""Plots of an oracle evaluation: curves over the clip index, and the camera commanded against the one achieved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from model.evaluation.camera_accuracy import CameraAccuracy
from model.evaluation.oracle import OracleResult
from model.evaluation.world_evaluator import EvaluationReport
from model.whole_file import whole_file

Curve = Sequence[float | int | None]


def plot_report(path: Path, result: OracleResult, found: EvaluationReport) -> None:
    """Plots, over the clips, fidelity and the other measured sections that have a figure for every clip."""
    panels: dict[str, dict[str, Curve]] = {
        "PSNR, dB": {name: values.mean(dim=0).tolist() for name, values in result.psnr.items()}
    }
    sections: dict[str, Any] = found.sections
    kinds = ("known", "seen", "revealed", "moving")
    panels["PSNR, dB, by pixels"] = {name: sections["fidelity"][f"psnr_{name}"] for name in kinds}
    if camera := sections.get("camera"):
        for key, unit in (("rot_err_deg", "RotErr, degrees"), ("trans_err_m", "TransErr, metres")):
            lines = {"generated": camera["per_clip"], "floor": camera["floor_per_clip"]}
            panels[unit] = {name: [row[key] for row in rows] for name, rows in lines.items()}
    if objects := sections.get("objects"):
        films = [film for film in ("generated", "vae") if film in objects]
        panels["objects, ratio to the true clip"] = {
            f"{name}, {film}": objects[film][name] for name in ("share", "edges") for film in films
        }
    if colours := sections.get("caption_colours"):
        for name, unit in (("found", "named colours in view, found"), ("named", "coloured pixels, named")):
            panels[f"{unit}, share"] = _of_films(colours, name)
    if steady := sections.get("steadiness"):
        units = {
            "colour": "change of colour in two frames, grey levels",
            "size": "change of size in two frames, octaves",
            "found": "objects found again, share",
        }
        for name, unit in units.items():
            panels[unit] = _of_films(steady, name)
    if still := sections.get("still"):
        curves = {name: still[f"{name}_ratio"] for name in ("sharpness", "contrast")}
        motion = {"motion": still["motion"]["ratio_per_clip"]} if still["motion"] else {}
        panels["standing still, generated / true"] = curves | motion
    plot_curves(path, panels)


def _of_films(section: Mapping[str, Any], name: str) -> dict[str, Curve]:
    return {film: section[film][name] for film in ("generated", "true", "vae", "other") if film in section}


def plot_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """One panel per entry, named by its unit, with a curve per name over clips 1, 2, ...; None leaves a gap."""
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    for axes, (unit, curves) in zip(places, panels.items(), strict=False):
        for name, values in curves.items():
            clips = range(1, len(values) + 1)
            axes.plot(clips, [float("nan") if v is None else v for v in values], marker="o", markersize=3, label=name)
        axes.set(xlabel="clip", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    _save(figure, path)


def plot_paths(
    path: Path, poses: Float[Tensor, "n f 4 4"], accuracy: CameraAccuracy, titles: Sequence[str], num_scenes: int = 8
) -> None:
    """Camera centres from above, commanded (line) and achieved (dots; crosses where the search failed)."""
    count = min(num_scenes, len(titles))
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(3 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes, commanded, track, title in zip(panels, poses, accuracy.tracks, titles, strict=False):
        axes.plot(commanded[:, 0, 3], commanded[:, 2, 3], color="0.6", label="commanded")
        for solved, marker, label in ((True, ".", "achieved"), (False, "x", "not found (at the commanded place)")):
            found = [e.found.c2w if solved else commanded[e.frame] for e in track if e.found.is_solved == solved]
            if found:
                places = [(float(c2w[0, 3]), float(c2w[2, 3])) for c2w in found]
                axes.plot(*zip(*places, strict=True), marker, label=label)
        axes.set_title(title, fontsize=8)
        axes.set(xlabel="right, m", ylabel="ahead, m")
        axes.axis("equal")
    panels[0].legend(fontsize=6)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as partial:
        FigureCanvasAgg(figure).print_figure(partial, dpi=110)
