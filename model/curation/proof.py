"""Tests the curation: rendered films go through the pipeline without their poses, also with steps left out.

Source: ours; the paper measures each step's value by training without it (Table 3), which takes a cluster.
"""

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.curation.balance import PathDescription, describe, plot_balance, prune
from model.curation.ledger import LedgerLine
from model.curation.pipeline import CurationConfig, curate_films
from model.curation.publish import PublishConfig, publish
from model.curation.shots import ShotsConfig, read_clips
from model.curation.step_pictures import step_pictures
from model.curation.steps import StepsConfig, Tools
from model.curation.tools import ToolsConfig, build_tools
from model.curation.truth_films import FilmTruth, TruthFilmsConfig, load_truth, render_truth_films
from model.data.manifest import ClipRecord, Manifest
from model.data.synthetic.scene import sample_scene
from model.data.synthetic.trajectories import sample_trajectory
from model.estimators.metric_depth import GivenDepth
from model.geometry import se3
from model.geometry.alignment import rotation_error_deg, trajectory_errors

MIN_PATH_LENGTH = 0.3  # metres: a camera that moves less stands or only turns, and structure from motion finds no path


@dataclass(kw_only=True)
class ProofConfig:
    """`python -m model.cli.curate proof`.

    Attributes:
        out: The folder of all output.
        num_workers: Processes.
        depth_noise: Error of the planted metric depth: standard deviation per pixel, as a share.
        depth_bias: Likewise, of a factor common to a frame.
        depth_outliers: Share of its pixels that are wrong, by any factor from 1/3 to 3.
        lens_noise: Error of the planted lens estimate, in the row that uses it: standard deviation, as a share, of a
            film's focal length; frames differ by half as much again.
        num_paths: Camera paths that are balanced, without rendering their films.
        cap: Most paths per category in that balance.
        pictures: A folder for pictures of every step, of the solved film with most moving pixels; None: no pictures.
        films: What is rendered.
        steps: As in the pipeline.
        tools: As in the pipeline, except that the depth is planted.
    """

    out: str = "runs/curate/proof"
    num_workers: int = 1
    depth_noise: float = 0.05
    depth_bias: float = 0.03
    depth_outliers: float = 0.2
    lens_noise: float = 0.08
    num_paths: int = 300
    cap: int = 10
    pictures: str | None = None
    films: TruthFilmsConfig = field(default_factory=TruthFilmsConfig)
    steps: StepsConfig = field(default_factory=StepsConfig)
    tools: ToolsConfig = field(default_factory=ToolsConfig)

    def curation(self) -> CurationConfig:
        """Returns the pipeline's settings: clips as long as the films, in their own size."""
        films = self.films
        shots = ShotsConfig(
            fps=films.fps,
            height=films.height,
            width=films.width,
            min_frames=min(24, films.num_frames),
            max_frames=films.num_frames,
        )
        return CurationConfig(shots=shots, steps=self.steps, tools=self.tools)


@dataclass(frozen=True)
class PlantedDepthTools:
    """Makes the tools, with the truth plus a planted error as metric depth: no network's weights are shipped."""

    folder: str
    noise: float
    bias: float
    outliers: float
    lens_noise: float | None  # None: the lens is not estimated
    shots: str  # JSON, so that it can be hashed

    def __call__(self, config: ToolsConfig) -> Tools:
        """Returns the tools that know the depth of every film in the folder."""
        frames, depth, lens = [], [], []
        for number, path in enumerate(sorted(Path(self.folder).glob("films/*.mp4"))):
            truth = load_truth(Path(self.folder), path.stem)
            for clip in read_clips(path, ShotsConfig(**json.loads(self.shots))):
                frames.append(clip.frames)
                depth.append(self._erroneous(truth.depth[frame_numbers(clip.times, truth)], number))
                lens.append(self._judged(float(truth.intrinsics[0]), len(clip.frames), number))
        fov = None if self.lens_noise is None else torch.cat(lens)
        return dataclasses.replace(build_tools(config), depth=GivenDepth(torch.cat(frames), torch.cat(depth), fov))

    def _judged(self, focal: float, num_frames: int, seed: int) -> Float[Tensor, " f"]:
        generator, noise = torch.Generator().manual_seed(1000 + seed), self.lens_noise or 0.0
        film, frame = torch.randn(1, generator=generator), torch.randn(num_frames, generator=generator)
        return torch.rad2deg(2 * torch.atan(0.5 / (focal * (1 + noise * film + 0.5 * noise * frame))))

    def _erroneous(self, depth: Float[Tensor, "f h w"], seed: int) -> Float[Tensor, "f h w"]:
        generator = torch.Generator().manual_seed(seed)
        pixel = 1 + self.noise * torch.randn(depth.shape, generator=generator)
        frame = 1 + self.bias * torch.randn(len(depth), 1, 1, generator=generator)
        wrong = torch.rand(depth.shape, generator=generator) < self.outliers
        factor = 3 ** (2 * torch.rand(depth.shape, generator=generator) - 1)
        return depth * frame * torch.where(wrong, factor, pixel)


@dataclass(frozen=True)
class ProofRow:
    """One variant of the pipeline: counts of films, and means over the solved ones (None: there is none).

    Attributes:
        moving: Films whose camera changes its place.
        solved: Of these, how many were kept.
        resting: Films whose camera stands or only turns.
        rejected_resting: Of these, how many were rejected, as they should be.
        rot_err: Degrees, after Sim(3) of the centres, as in the paper: on a nearly straight path, millimetres decide
            the roll about it.
        turn_err: Degrees, of the orientation relative to the first frame's: without alignment, so without that roll.
        trans_err: Metres, after Sim(3).
        metric_err: Metres, after a rigid motion only: it includes the error of the scale.
        scale_err: |s - 1| for the remaining scale s of the alignment.
        lens_err: |f / f_true - 1|.
    """

    moving: int
    solved: int
    resting: int
    rejected_resting: int
    rot_err: float | None
    turn_err: float | None
    trans_err: float | None
    metric_err: float | None
    scale_err: float | None
    lens_err: float | None


def prove(config: ProofConfig) -> dict[str, object]:
    """Renders missing films, runs the pipeline's variants (each resumes), and returns the report."""
    out = Path(config.out)
    truths = render_truth_films(out, config.films)
    settings = config.curation()
    rows: dict[str, ProofRow] = {}
    lines: dict[str, list[LedgerLine]] = {}
    for name, variant in _variants(settings).items():
        folder = out / name.replace(" ", "_")
        lens_noise = config.lens_noise if "judged" in name else None
        planted = (config.depth_noise, config.depth_bias, config.depth_outliers, lens_noise)
        tools = PlantedDepthTools(str(out), *planted, json.dumps(dataclasses.asdict(variant.shots)))
        curate_films(out / "films", folder, variant, num_workers=config.num_workers, make_tools=tools)
        lines[name] = publish(folder, PublishConfig(cap=0))
        rows[name] = proof_row(list(Manifest(folder)), truths)
        if name == "all steps" and config.pictures is not None:
            _draw(Path(config.pictures), out, tools, list(Manifest(folder)), truths, variant)
        if name == "all steps":
            rows["without the scale"] = proof_row([_unscaled(record) for record in Manifest(folder)], truths)
    paths = _sampled_paths(config)
    kept, _ = prune(paths, config.cap)
    for folder in (out, *([Path(config.pictures)] if config.pictures is not None else [])):
        plot_balance(folder / "balance.png", paths, kept)
    report: dict[str, object] = {
        "config": dataclasses.asdict(config),
        "rows": {name: dataclasses.asdict(row) for name, row in rows.items()},
        "mask": mask_score(truths, out, settings),
        "balance": {"without": spread(paths, list(paths)), "with": spread(paths, kept)},
        "films": {name: [_film_line(line, truths) for line in found] for name, found in lines.items()},
    }
    return report


def _variants(settings: CurationConfig) -> dict[str, CurationConfig]:
    known = dataclasses.replace(settings.steps, horizontal_fov_deg=75.0)
    return {
        "all steps": settings,
        "without the mask": dataclasses.replace(settings, tools=dataclasses.replace(settings.tools, mask="none")),
        "with the lens judged from pictures": settings,
        "with the lens known": dataclasses.replace(settings, steps=known),
    }


def proof_row(records: list[ClipRecord], truths: dict[str, FilmTruth]) -> ProofRow:
    """Returns the counts and the mean errors of the records against the truth of their films."""
    solved = {Path(record.source).stem: record for record in records}
    moving = {name for name, truth in truths.items() if truth.path_length >= MIN_PATH_LENGTH}
    errors: list[tuple[float, ...]] = []
    for name in sorted(moving & set(solved)):
        record, truth = solved[name], truths[name]
        assert record.camera is not None
        true_path = truth.c2w[frame_numbers(record.times, truth)]
        free = trajectory_errors(record.camera.c2w, true_path)
        rigid = trajectory_errors(record.camera.c2w, true_path, with_scale=False)
        lens = abs(float(record.camera.intrinsics[0, 0] / truth.intrinsics[0]) - 1)
        turns = (se3.relative(c2w[:1], c2w) for c2w in (record.camera.c2w, true_path))
        turn = float(rotation_error_deg(*turns).mean())
        errors.append((free.rot_err, turn, free.trans_err, rigid.trans_err, abs(free.scale - 1), lens))
    means = [sum(column) / len(errors) for column in zip(*errors, strict=True)] if errors else [None] * 6
    resting = set(truths) - moving
    counts = (len(moving), len(errors), len(resting), len(resting - set(solved)))
    return ProofRow(*counts, *means)


def mask_score(truths: dict[str, FilmTruth], folder: Path, config: CurationConfig) -> dict[str, float | int | None]:
    """Returns precision and recall of the motion mask over all pixels of all clips."""
    mask = build_tools(config.tools).mask
    if mask is None:
        return {"precision": None, "recall": None, "moving_pixels": 0}
    hit = said = true = 0
    for name, truth in tqdm(truths.items(), desc="scoring masks", unit="film"):
        for clip in read_clips(folder / "films" / f"{name}.mp4", config.shots):
            found, moving = mask(clip.frames), truth.moving[frame_numbers(clip.times, truth)]
            hit += int((found & moving).sum())
            said += int(found.sum())
            true += int(moving.sum())
    return {"precision": hit / max(said, 1), "recall": hit / max(true, 1), "moving_pixels": true}


def spread(paths: dict[str, PathDescription], names: list[str]) -> dict[str, float | int]:
    """Returns how evenly the categories share the paths: the largest category's share, and e to the entropy."""
    counts = Counter(paths[name].category for name in names)
    shares = [count / len(names) for count in counts.values()]
    entropy = -sum(share * math.log(share) for share in shares)
    return {"paths": len(names), "largest_share": max(shares), "effective_categories": math.exp(entropy)}


def proof_tables(report: dict[str, object]) -> str:
    """Returns the report as Markdown."""
    rows, mask, balance = report["rows"], report["mask"], report["balance"]
    assert isinstance(rows, dict) and isinstance(mask, dict) and isinstance(balance, dict)
    counted, angles = "solved | rightly rejected", "RotErr, deg | turn error, deg"
    lengths, shares = "TransErr, m | TransErr without Sim(3)'s scale, m", "scale error | lens error"
    text = [f"| | {counted} | {angles} | {lengths} | {shares} |", "| --- " * 9 + "|"]
    for name, row in rows.items():
        counts = f"{row['solved']} of {row['moving']} | {row['rejected_resting']} of {row['resting']}"
        metres = [_number(row[key], 3) for key in ("trans_err", "metric_err")]
        percents = [_percent(row[key]) for key in ("scale_err", "lens_err")]
        degrees = [_number(row[key], 2) for key in ("rot_err", "turn_err")]
        text.append(f"| {name} | {counts} | {' | '.join([*degrees, *metres, *percents])} |")
    text += [
        "",
        f"Motion mask: precision {_number(mask['precision'], 2)}, recall {_number(mask['recall'], 2)}, "
        f"over {mask['moving_pixels']} moving pixels.",
        "",
        "| balance | paths | largest category | effective categories |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in balance.items():
        share = _percent(row["largest_share"])
        text.append(f"| {name} | {row['paths']} | {share} | {row['effective_categories']:.1f} |")
    return "\n".join(text) + "\n"


def frame_numbers(times: Float[Tensor, " f"], truth: FilmTruth) -> Tensor:
    """Returns the numbers of the film's frames at these seconds."""
    return (times * truth.fps).round().long().clamp(max=len(truth.c2w) - 1)


def _draw(
    pictures: Path,
    out: Path,
    make_tools: PlantedDepthTools,
    records: list[ClipRecord],
    truths: dict[str, FilmTruth],
    config: CurationConfig,
) -> None:
    names = [Path(record.source).stem for record in records]
    if not names:
        raise ValueError("pictures: expected a film that is solved, got none; render more films")
    name = max(names, key=lambda name: int(truths[name].moving.sum()))
    clip = next(read_clips(out / "films" / f"{name}.mp4", config.shots))
    step_pictures(pictures, clip, make_tools(config.tools), config.steps)


def _unscaled(record: ClipRecord) -> ClipRecord:
    assert record.camera is not None and record.scale is not None
    c2w = record.camera.c2w.clone()
    c2w[:, :3, 3] /= record.scale
    return dataclasses.replace(record, camera=dataclasses.replace(record.camera, c2w=c2w), scale=None)


def _sampled_paths(config: ProofConfig) -> dict[str, PathDescription]:
    paths = {}
    for seed in tqdm(range(config.num_paths), desc="describing paths", unit="path"):
        path, _ = sample_trajectory(sample_scene(seed, style="textured"), seed, config.films.num_latents)
        paths[f"path_{seed:05d}"] = describe(path.upsample(4).c2w)
    return paths


def _film_line(line: LedgerLine, truths: dict[str, FilmTruth]) -> dict[str, object]:
    name = Path(line.source).stem
    film = {"film": name, "path_length": round(truths[name].path_length, 3)}
    return film | {"verdict": line.verdict, "step": line.step, "reason": line.reason, "numbers": dict(line.numbers)}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
