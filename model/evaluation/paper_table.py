"""The paper's Tables 2 to 5 on one base: the figures of each arm, and whether the paper's orderings hold."""

import math
import statistics
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from model.evaluation.camera_accuracy import measure_camera, searched
from model.evaluation.finished_rows import Row
from model.evaluation.motion import measure_motion
from model.evaluation.oracle import OracleScenes
from model.evaluation.paper.appearance import consistency, cut_into_clips
from model.evaluation.paper.frechet import frechet_distance
from model.evaluation.paper.networks import build_image_network, build_video_network
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import psnr

# the paper's column: the figure that replaces it for 48x80 frames, and which way is better
COLUMNS = {
    "fvd": ("frechet_lab", "lower"),
    "motion_strength": ("motion_ratio", "higher"),
    "trans_err": ("search_trans_err_m", "lower"),
    "rot_err_deg": ("search_rot_err_deg", "lower"),
    "geometric_consistency": ("search_solved_share", "higher"),
    "appearance_consistency": ("lab_consistency", "higher"),
}
_T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def measure_films(
    scenes: OracleScenes, truths: list[SceneTruth], films: UInt8[Tensor, "n f h w 3"], frames_per_clip: int
) -> Row:
    """The figures of a world's films of held-out scenes.

    `frechet_lab` and `lab_consistency` as in `evaluate paper`, to the true films and between a film's clips; the camera
    by the oracle's search; `motion_ratio`, the motion of objects over the true motion; `psnr`, dB, of the first clip.
    """
    videos, images = build_video_network(None, None, "cpu"), build_image_network(None, "cpu")
    parts = cut_into_clips(films.shape[1], frames_per_clip)
    ours, true = (torch.stack([videos(f[part]) for f in each for part in parts]) for each in (films, scenes.frames))
    looks = [consistency([images(film[part]).mean(dim=0) for part in parts]) for film in films]
    poses, first = scenes.frame_poses(), slice(1, 1 + frames_per_clip)
    return {
        "frechet_lab": frechet_distance(ours, true),
        "motion_ratio": measure_motion(truths, films, poses, frames_per_clip).summary()["ratio"],
        **searched(measure_camera(truths, films, poses)),
        "lab_consistency": statistics.fmean(look for look in looks if look is not None),
        "psnr": float(psnr(films[:, first], scenes.frames[:, first]).mean()),
    }


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of its 95 % interval (Student's t), which is None for one value."""
    mean, num = statistics.fmean(values), len(values)
    if num < 2:
        return mean, None
    return mean, _T_975.get(num - 1, _T_975[9]) * statistics.stdev(values) / math.sqrt(num)


def verdict(differences: Sequence[float], paper: float) -> str:
    """Whether an ordering of the paper held: `differences` are arm minus full method per seed, `paper` is the paper's.

    `held` or `did not hold`, if the 95 % interval of the mean difference excludes 0; else `within chance`, also for one
    seed, which has no interval.
    """
    mean, half = mean_and_interval(differences)
    if half is None or abs(mean) <= half:
        return "within chance"
    return "held" if (mean > 0) == (paper > 0) else "did not hold"


def paper_table(
    rows: Mapping[str, Sequence[Row]],
    paper: Mapping[str, Mapping[str, float]],
    paper_reference: Mapping[str, Mapping[str, float]],
    costs: Mapping[str, str],
) -> str:
    """The table and the verdicts in Markdown.

    Args:
        rows: Each arm's rows, one per seed, in the same order; the first arm is the paper's full method.
        paper: The paper's numbers of each arm, by the names of `COLUMNS`.
        paper_reference: The paper's numbers of the full method beside an arm, where they differ from the first arm's.
        costs: The cost of each arm's network, in words.
    """
    measured = [(name, *columns) for name, columns in COLUMNS.items() if any(name in arm for arm in paper.values())]
    heads = [f"{ours} ({theirs}, {better} is better)" for theirs, ours, better in measured]
    lines = ["| arm | seeds | camera's weights, GFLOP | " + " | ".join([*heads, "psnr, dB"]) + " |"]
    lines.append("|" + " --- |" * (4 + len(heads)))
    for arm, seeds in rows.items():
        cells = [_cell(seeds, ours, paper.get(arm, {}).get(theirs)) for theirs, ours, _ in measured]
        lines.append(
            f"| {arm} | {len(seeds)} | {costs[arm]} | " + " | ".join([*cells, _cell(seeds, "psnr", None)]) + " |"
        )
    full = next(iter(rows))
    lines += ["", f"In brackets: the paper's. Orderings of the paper against `{full}`, paired by seed:", ""]
    for arm in list(rows)[1:]:
        references = paper_reference.get(arm, paper.get(full, {}))
        lines += _verdicts(arm, rows[arm], rows[full], paper.get(arm, {}), references)
    return "\n".join(lines) + "\n"


def _verdicts(
    arm: str, seeds: Sequence[Row], full: Sequence[Row], paper: Mapping[str, float], references: Mapping[str, float]
) -> list[str]:
    """A line for each ordering of the paper that can be compared."""
    lines = []
    for theirs, (ours, _) in COLUMNS.items():
        pairs = [(a.get(ours), b.get(ours)) for a, b in zip(seeds, full, strict=True)]
        if theirs not in paper or theirs not in references or any(None in pair for pair in pairs):
            continue
        value, reference = paper[theirs], references[theirs]
        differences = [float(str(a)) - float(str(b)) for a, b in pairs]
        mean, half = mean_and_interval(differences)
        interval = "one seed" if half is None else f"± {half:.3g}"
        lines.append(
            f"- {arm}, {theirs} {value:g} against {reference:g}: **{verdict(differences, value - reference)}** "
            f"({ours} {mean:+.3g}, {interval})"
        )
    return lines


def _cell(seeds: Sequence[Row], name: str, paper: float | None) -> str:
    values = [float(str(row[name])) for row in seeds if row.get(name) is not None]
    if not values:
        return "-"
    mean, half = mean_and_interval(values)
    theirs = "" if paper is None else f" ({paper:g})"
    return f"{mean:.3g}{'' if half is None else f' ± {half:.2g}'}{theirs}"
