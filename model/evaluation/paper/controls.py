"""Tests the metrics: films whose truth is known are spoilt in one way each, and only the matching metric should change.

Source: ours, because a metric that never shows a failure measures nothing.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from model.curation.films import find_films
from model.curation.steps import Tools
from model.curation.tools import ToolsConfig, build_tools
from model.curation.truth_films import FilmTruth, TruthFilmsConfig, render_truth_films
from model.data.clips import save_array
from model.data.synthetic.renderer import render_frames
from model.data.synthetic.scene import sample_scene, static_scene
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.data.synthetic.trajectories import HORIZONTAL_FOV
from model.data.video_io import write_video
from model.estimators.metric_depth import GivenDepth, MetricDepth
from model.estimators.motion_mask import MotionMask
from model.estimators.sfm import Reconstruction, ReconstructionFailed, StructureFromMotion
from model.evaluation.paper.evaluation import PaperReport, evaluate_films
from model.evaluation.paper.films import read_film
from model.evaluation.paper.lab_network import LabImages, LabVideos, load_lab_network
from model.evaluation.paper.network_controls import measure_network_controls, shuffled
from model.evaluation.paper.report import ROWS, format_cell
from model.evaluation.paper.settings import PaperConfig
from model.fingerprint import fingerprint
from model.geometry import se3
from model.whole_file import write_text

_SEED = 7  # of the turned poses
_COLUMNS = ("motion_strength_px", "trans_err", "rot_err_deg", "trans_err_metric", "solved_share")
NetworkNumbers = dict[str, dict[str, float | None]]


@dataclass(kw_only=True)
class ControlsConfig:
    """`python -m model.cli.evaluate paper_controls`.

    Attributes:
        out: FILE.json; the table gets the same name, the films are stored in FILE_films.
        films: The rendered films, in the textured style, at this size.
        turned_deg: Angle by which every commanded pose is turned, each about another axis.
        longer: Factor by which commanded paths are made longer.
        smaller: True films are also judged at these shares of their size.
        num_clips: Small clips of each condition on which our own network is tested; 0: it is not.
    """

    out: str = "runs/evaluate/paper_controls.json"
    films: TruthFilmsConfig = field(default_factory=lambda: TruthFilmsConfig(first_seed=HELD_OUT_SEED))
    turned_deg: float = 5.0
    longer: float = 1.1
    smaller: list[float] = field(default_factory=lambda: [0.5, 0.25])
    num_clips: int = 128

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: There are fewer than two films, so that none can be judged against another's path.
        """
        if self.films.num_films < 2:
            raise ValueError(f"films.num_films: expected two or more, got {self.films.num_films}; raise it")


def measure_controls(config: ControlsConfig) -> dict[str, PaperReport]:
    """Returns the report of every condition, by name; existing films and results are not made again."""
    out = Path(config.out)
    folder = out.with_name(f"{out.stem}_films")
    truths = render_truth_films(folder / "rendered", config.films)
    films = folder / "rendered" / "films"
    # a folder for each choice of films, so that films of another choice are not judged with them
    folder /= f"{config.films.first_seed}_{config.films.num_films}"
    for name in truths:
        _link(films / f"{name}.mp4", folder / "true" / f"{name}.mp4")
    _write_films(folder, truths, config)
    _write_paths(folder, truths, config)
    tools = _remembering_tools(_given_depth(folder, truths))
    reports = {}
    for label, kind, poses in _conditions(config):
        settings = PaperConfig(
            out=str(folder / "results" / f"{kind}_{poses}.json"),
            videos=str(folder / kind),
            poses=str(folder / "poses" / poses),
            fov_deg=math.degrees(HORIZONTAL_FOV),
            pictures=poses == "commanded",
        )
        reports[label] = evaluate_films(settings, lambda _: tools)
    return reports


def measure_lab_network(config: ControlsConfig) -> NetworkNumbers:
    """Returns `frechet_lab` and `lab_consistency` of true and of spoilt small clips, by condition; none for 0 clips."""
    if not config.num_clips:
        return {}
    out, network = Path(config.out), load_lab_network()
    folder = out.with_name(f"{out.stem}_films") / f"small_{config.films.first_seed}_{config.num_clips}"
    return measure_network_controls(
        folder, config.num_clips, config.films.first_seed, LabVideos(network), LabImages(network)
    )


def write_controls(config: ControlsConfig, reports: dict[str, PaperReport], networks: NetworkNumbers) -> str:
    """Writes FILE.json and FILE.md; returns the tables."""
    names = [name for name in _COLUMNS if any(name in report.summary for report in reports.values())]
    lines = [f"| films | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for label, report in reports.items():
        lines.append(f"| {label} | {' | '.join(format_cell(report.summary.get(name)) for name in names)} |")
    lines += ["", *(f"- {name}: {ROWS[name]}" for name in names), ""]
    if networks:
        columns = list(next(iter(networks.values())))
        lines += [f"| clips | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
        for label, numbers in networks.items():
            lines.append(f"| {label} | {' | '.join(format_cell(numbers[name]) for name in columns)} |")
    contents: dict[str, Any] = {label: report.summary for label, report in reports.items()}
    text = json.dumps(
        {"conditions": contents, "networks": networks, "config": dataclasses.asdict(config)}, indent=1, allow_nan=False
    )
    write_text(Path(config.out), text)
    write_text(Path(config.out).with_suffix(".md"), "\n".join(lines))
    return "\n".join(lines)


def turned(c2w: Float[Tensor, "f 4 4"], degrees: float) -> Float[Tensor, "f 4 4"]:
    """Returns the poses, each turned about its own axis through its centre: no alignment can undo that."""
    axes = torch.randn(len(c2w), 3, generator=torch.Generator().manual_seed(_SEED), dtype=c2w.dtype)
    axes = torch.nn.functional.normalize(axes, dim=-1)
    return c2w @ se3.exp(torch.cat((torch.zeros_like(axes), math.radians(degrees) * axes), dim=-1))


def _conditions(config: ControlsConfig) -> list[tuple[str, str, str]]:
    """Returns the label of every row, its films, and the paths against which they are judged."""
    conditions = [
        ("true films", "true", "commanded"),
        ("frozen", "frozen", "commanded"),
        ("shuffled", "shuffled", "commanded"),
        ("no moving objects", "no_moving_objects", "commanded"),
        ("another film's path", "true", "another"),
        (f"path turned by {config.turned_deg:g} degrees", "true", "turned"),
        (f"path {config.longer:g} times as long", "true", "longer"),
    ]
    for share in config.smaller:
        height, width = (round(side * share) for side in (config.films.height, config.films.width))
        conditions.append((f"true films at {height}x{width}", f"true_{share:g}", "commanded"))
    return conditions


def _write_films(folder: Path, truths: dict[str, FilmTruth], config: ControlsConfig) -> None:
    spoilers: dict[str, Callable[[Tensor], Tensor]] = {
        "frozen": lambda frames: frames[:1].expand_as(frames),
        "shuffled": shuffled,
    }
    spoilers |= {f"true_{share:g}": partial(_resized, share=share) for share in config.smaller}
    for film in find_films(folder / "true"):
        name = film.path.stem
        frames = read_film(film, None, config.films.num_frames).frames
        for condition, spoil in spoilers.items():
            if not (path := folder / condition / f"{name}.mp4").exists():
                write_video(path, spoil(frames), config.films.fps)
        if not (path := folder / "no_moving_objects" / f"{name}.mp4").exists():
            write_video(path, _without_moving_objects(name, truths[name], config.films), config.films.fps)


def _without_moving_objects(name: str, truth: FilmTruth, films: TruthFilmsConfig) -> UInt8[Tensor, "f h w 3"]:
    scene = static_scene(sample_scene(int(name.split("_")[1]), style="textured"))
    times = torch.zeros(len(truth.c2w))
    return render_frames(scene, truth.c2w, truth.intrinsics, times, films.height, films.width)


def _write_paths(folder: Path, truths: dict[str, FilmTruth], config: ControlsConfig) -> None:
    paths = [truth.c2w for truth in truths.values()]
    for index, (name, path) in enumerate(zip(truths, paths, strict=True)):
        longer = path.clone()
        longer[:, :3, 3] *= config.longer
        kinds = {
            "commanded": path,
            "another": paths[(index + 1) % len(paths)],
            "turned": turned(path, config.turned_deg),
            "longer": longer,
        }
        for kind, c2w in kinds.items():
            save_array(folder / "poses" / kind / f"{name}.npy", c2w.numpy().astype(np.float32))


def _given_depth(folder: Path, truths: dict[str, FilmTruth]) -> MetricDepth:
    """Returns the renderer's depth of every decoded frame of the true films."""
    frames, depth = [], []
    for film in find_films(folder / "true"):
        truth = truths[film.path.stem]
        frames.append(read_film(film, None, len(truth.c2w)).frames)
        depth.append(truth.depth)
    given = GivenDepth(torch.cat(frames), torch.cat(depth))

    def of_true_films(frames: UInt8[Tensor, "*f h w 3"]) -> Float[Tensor, "*f h w"]:
        try:
            return given(frames)
        except ValueError:  # a spoilt picture: its depth is unknown, so it has no metric scale
            return torch.full(frames.shape[:-1], float("inf"))

    return of_true_films


class _RememberedSfM:
    """Structure from motion that solves every film only once, because films are judged against several paths."""

    def __init__(self, solve: StructureFromMotion) -> None:
        self._solve, self._answers = solve, dict[str, Reconstruction | ReconstructionFailed]()

    def __call__(
        self,
        frames: UInt8[Tensor, "f h w 3"],
        masks: Bool[Tensor, "f h w"] | None,
        intrinsics: Float[Tensor, "4"] | None,
    ) -> Reconstruction:
        """Returns the first call's result, or raises its error."""
        key = fingerprint(*("none" if each is None else each for each in (frames, masks, intrinsics)))
        if key not in self._answers:
            try:
                self._answers[key] = self._solve(frames, masks, intrinsics)
            except ReconstructionFailed as failure:
                self._answers[key] = failure
        answer = self._answers[key]
        if isinstance(answer, ReconstructionFailed):
            raise answer
        return answer


class _RememberedMask:
    """A mask of moving objects that is made only once for every film."""

    def __init__(self, mask: MotionMask) -> None:
        self._mask, self._answers = mask, dict[str, Tensor]()

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Bool[Tensor, "f h w"]:
        """Returns the first call's result."""
        key = fingerprint(frames)
        if key not in self._answers:
            self._answers[key] = self._mask(frames)
        return self._answers[key]


def _remembering_tools(depth: MetricDepth) -> Tools:
    tools = build_tools(ToolsConfig())
    assert tools.mask is not None
    sfm, other = _RememberedSfM(tools.sfm), None if tools.other_sfm is None else _RememberedSfM(tools.other_sfm)
    return dataclasses.replace(tools, sfm=sfm, other_sfm=other, mask=_RememberedMask(tools.mask), depth=depth)


def _resized(frames: UInt8[Tensor, "f h w 3"], share: float) -> UInt8[Tensor, "f rows columns 3"]:
    size = tuple(round(side * share) for side in frames.shape[1:3])
    small = interpolate(frames.movedim(-1, 1).float(), size, mode="bilinear", antialias=True)
    return small.round().byte().movedim(1, -1).contiguous()


def _link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.symlink_to(source.resolve())
