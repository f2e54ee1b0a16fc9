"""The report of `evaluate paper` as JSON and Markdown."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from model.curation.ledger import write_ledger
from model.evaluation.paper.evaluation import PaperReport, results_folder
from model.evaluation.paper.film_result import FilmResult
from model.evaluation.paper.pictures import draw_paths
from model.evaluation.paper.settings import PaperConfig
from model.whole_file import write_text

# the name of each row of the table, and which way is better
ROWS = {
    "fvd": "FVD, lower is better",
    "fvd_of_reference_halves": "FVD between two halves of the reference (what equal films have)",
    "frechet_lab": "Frechet distance of the lab network's features, lower is better; no FVD",
    "frechet_lab_of_reference_halves": "the same between two halves of the reference (what equal films have)",
    "motion_strength_px": "motion strength, pixels a frame, higher is livelier",
    "motion_strength_deg": "motion strength, the paper's degrees (57.3 x pixels)",
    "foreground_flow_px": "flow on moving objects with the camera's share, pixels a frame",
    "moving_share": "share of the pixels that moves by itself",
    "trans_err": "TransErr after Sim(3) alignment, unit of the paths, lower is better",
    "rot_err_deg": "RotErr, degrees, lower is better",
    "trans_err_metric": "TransErr without free scale, metres, lower is better",
    "path_length": "length of the commanded paths, unit of the paths",
    "solved_share": "geometric consistency: share of films that structure from motion solves, higher is better",
    "search_rot_err_deg": "RotErr by the oracle's search against the known scene (no SfM), degrees, lower is better",
    "search_trans_err_m": "TransErr by the oracle's search (no SfM, no alignment), metres, lower is better",
    "search_solved_share": "share of the frames whose camera the oracle's search finds",
    "appearance_consistency": "appearance consistency, cosine, higher is more alike",
    "lab_consistency": "cosine of the lab network's features between clips of a scene; no CLIP",
}
_FILM_COLUMNS = ("motion_strength_px", "trans_err", "rot_err_deg", "trans_err_metric")


def write_paper_report(config: PaperConfig, report: PaperReport) -> str:
    """Writes FILE.json, FILE.md, FILE_ledger.jsonl and FILE_paths.png; returns the Markdown."""
    out, ledger = Path(config.out), results_folder(config, "ledger.jsonl")
    contents = {
        "summary": report.summary,
        "standard_errors": report.standard_errors,
        "networks": report.networks,
        "per_clip": [each.record() for each in report.results],
        "config": dataclasses.asdict(config),
    }
    tables = summary_table(report) + "\n" + films_table(report.results)
    write_text(out, json.dumps(contents, indent=1, allow_nan=False))
    write_text(out.with_suffix(".md"), tables)
    write_ledger(ledger, [each.ledger_line() for each in report.results])
    if config.pictures and any("found" in each.arrays for each in report.results):
        draw_paths(results_folder(config, "paths.png"), report.results)
    return tables


def summary_table(report: PaperReport) -> str:
    """Returns a row for each metric that was measured."""
    lines = ["| metric | value | standard error | films or clips |", "| --- | --- | --- | --- |"]
    for name, label in ROWS.items():
        if name not in report.summary:
            continue
        error = report.standard_errors.get(name)
        counted = report.summary.get(f"{name}_films", report.summary["clips"])
        lines.append(f"| {label} | {format_cell(report.summary[name])} | {format_cell(error)} | {counted} |")
    lost = [each for each in report.results if each.reasons or each.unsolved]
    note = f"\n{report.summary['films']} films, {len(lost)} of them not wholly measured (see the ledger).\n"
    return "\n".join(lines) + "\n" + note


def films_table(results: Sequence[FilmResult]) -> str:
    """Returns a row for each film."""
    lines = [f"| film | frames | {' | '.join(_FILM_COLUMNS)} | solved | why not |", "|" + " --- |" * 8]
    for each in results:
        cells = [format_cell(each.metrics.get(name)) for name in _FILM_COLUMNS]
        solved = {None: "-", True: "yes", False: "no"}[each.solved]
        reason = each.ledger_line().reason.replace("|", "/")
        lines.append(f"| {each.id} | {each.num_frames} | {' | '.join(cells)} | {solved} | {reason} |")
    return "\n".join(lines) + "\n"


def format_cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4g}"
