"""`python -m model.cli.evaluate oracle [world=tiny] [num_scenes=64] [num_clips=1] [out=FILE.json]`.

Slower parts on request: `camera=true motion=true kinds=4 revisit=4 still=20`; see `model.build.OracleConfig`.
"""

import dataclasses
import json
import sys
from pathlib import Path

from configs.command_line import hydra_command
from model.build import BlockedConfig, OracleConfig, SamplerRowConfig, SamplerTableConfig
from model.cli.held_out_scenes import clips_for, oracle_scenes
from model.data.video_io import write_image
from model.evaluation.blocked import BlockedResult, blocked_table, evaluate_blocked
from model.evaluation.finished_rows import FinishedRows, Row
from model.evaluation.oracle import Autoencoder, OracleResult, OracleScenes, evaluate_oracle, render_oracle_scenes
from model.evaluation.paper.controls import ControlsConfig, measure_controls, measure_lab_network, write_controls
from model.evaluation.paper.evaluation import PaperReport, evaluate_films, results_folder
from model.evaluation.paper.flights import fly_films
from model.evaluation.paper.report import write_paper_report
from model.evaluation.paper.settings import PaperConfig
from model.evaluation.plots import plot_paths, plot_report
from model.evaluation.report import comparison_film, comparison_sheet, evaluation_tables, markdown_table, summarise
from model.evaluation.sampler_table import SamplerRow, evaluate_samplers, sampler_sheet, sampler_table
from model.evaluation.world_evaluator import EvaluationReport, WorldEvaluator
from model.mp4 import write_mp4
from model.whole_file import whole_file, write_text
from model.world.camera_world import CameraWorld
from model.world.folder import world_fingerprint
from model.world.free_space import SolidCameraWorld
from model.world.load import load_world
from model.world.options import WorldOptions

USAGE = """\
Measure a world; each evaluation has its own options.

  python -m model.cli.evaluate EVALUATION [option=value ...]
  python -m model.cli.evaluate EVALUATION --help

  oracle    fly held-out scenes and compare every pixel with the truth: the renderer's, or another world's
  distillation   samplers side by side, as in the paper's Table 1: what each costs and what it shows
  paper     the paper's six metrics, of any folder of films
  paper_controls   the test of these metrics: films of known truth, spoilt in one way each
  blocked   does the world know what its camera would bump into? precision and recall, against the renderer
"""


def run_oracle(config: OracleConfig) -> dict[str, object]:
    """Evaluates and writes `out`, a JSON file: summary, config, per_scene, and a section for each evaluation.

    Beside it: tables (`.md`), a contact sheet (`.png`), a film of the first scenes beside the truth (`.mp4`), curves
    over the clips (`_curves.png`) and, with `camera`, the paths commanded and achieved (`_paths.png`).

    Raises:
        ValueError: A setting is invalid; raised before anything is flown.
    """
    out = json_file(config.out)
    is_rendered = config.world == "synthetic"  # else the style is that of the held-out scenes alone
    world = load_world(config.world, config if is_rendered else dataclasses.replace(config, style=None))
    clips, scenes, truths = oracle_scenes(world.spec, config)
    autoencoder = world if isinstance(world, Autoencoder) else None
    evaluator = WorldEvaluator(world, autoencoder, clips, scenes, config, truths)
    result = evaluate_oracle(world, autoencoder, scenes, truths=evaluator.truths, batch_size=config.batch_size)
    found = evaluator.evaluate(result)
    report: dict[str, object] = {
        "summary": summarise(result) | found.summary(),
        "config": dataclasses.asdict(config),
        "per_scene": per_scene(scenes, result),
        **found.sections,
    }
    write_report(out, report, scenes, result, found)
    return report


def run_blocked(config: BlockedConfig) -> BlockedResult:
    """Evaluates and writes `out`, a JSON file of the config and every answer; beside it the table (`.md`).

    Raises:
        ValueError: The world has no depth head, or a setting is invalid.
    """
    out = json_file(config.out)
    world = load_world(config.world, WorldOptions(device=config.device))
    if not isinstance(world, SolidCameraWorld):
        raise ValueError(
            f"world: expected a learned world with a depth head for its latents, got {config.world!r}; "
            "train one with python -m model.cli.train_depth"
        )
    for name in ("num_scenes", "num_clips", "batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(config, name)}")
    seeds = range(config.first_seed, config.first_seed + config.num_scenes)
    result = evaluate_blocked(world, seeds, config.num_clips, config.batch_size)
    answers = {field.name: getattr(result, field.name).tolist() for field in dataclasses.fields(result)}
    table = blocked_table(result)
    write_text(out, json.dumps({"config": dataclasses.asdict(config), "answers": answers}, allow_nan=False))
    write_text(out.with_suffix(".md"), table)
    print(f"{table}\nwritten: {out} {out.with_suffix('.md')}")
    return result


def run_distillation(config: SamplerTableConfig) -> list[Row]:
    """Evaluates and writes `out`, a JSON file of `rows` and `config`, its table (`.md`) and a contact sheet (`.png`).

    Films and figures of finished rows are kept in a folder beside it (`_rows`); the same command continues from there.

    Raises:
        ValueError: There is no row, a setting is invalid, or the rows' worlds differ in size.
    """
    out = json_file(config.out)
    if not config.rows or config.timing_rounds < 1:
        raise ValueError(
            f"rows, timing_rounds: expected a row or more and a round or more, got {len(config.rows)} and "
            f"{config.timing_rounds}; add '+rows={{NAME:{{world:FOLDER}}}}'"
        )
    samplers = {name: sampler_row(name, row) for name, row in config.rows.items()}
    specs = {
        name: (row.world.spec.height, row.world.spec.width, row.world.spec.poses_per_clip)
        for name, row in samplers.items()
    }
    if len(set(specs.values())) > 1:
        raise ValueError(f"rows: expected worlds of one size and clip length, got {specs}; compare others apart")
    spec = next(iter(samplers.values())).world.spec
    clips = clips_for(spec, config)
    scenes = dataclasses.replace(render_oracle_scenes(clips, config.num_scenes), with_caption=True)
    finished = FinishedRows(out.with_name(f"{out.stem}_rows"))
    rows, stills = evaluate_samplers(samplers, clips, scenes, config, finished, config.timing_rounds)
    table = sampler_table(rows)
    print(table)
    write_text(out, json.dumps({"rows": rows, "config": dataclasses.asdict(config)}, indent=1, allow_nan=False))
    write_text(out.with_suffix(".md"), table)
    write_image(out.with_suffix(".png"), sampler_sheet(stills, scenes.frames, spec.frames_per_clip))
    print(f"written: {out} {out.with_suffix('.md')} {out.with_suffix('.png')}")
    return rows


def sampler_row(name: str, row: SamplerRowConfig) -> SamplerRow:
    """A row's world, and its identity: the weights and settings in its folder, and how it samples.

    Raises:
        ValueError: It is not a learned world, or has no such sampler.
    """
    world = load_world(row.world, row)
    if not isinstance(world, CameraWorld):
        raise ValueError(f"rows.{name}.world: expected a learned world, got {row.world!r}")
    return SamplerRow(world, f"{world_fingerprint(row.world)} {dataclasses.replace(row, world='')}")


def run_paper(config: PaperConfig) -> PaperReport:
    """Evaluates films and writes `out`, a JSON file: summary, per_clip, config; tables and pictures beside it.

    Raises:
        ValueError: A setting is invalid, or a package or weights are missing.
    """
    json_file(config.out)
    films, found = (config, {}) if config.world is None else generate_world_films(config)
    report = evaluate_films(films)
    report.summary.update(found)
    print(write_paper_report(config, report))
    print(f"written: {config.out}")
    return report


def generate_world_films(config: PaperConfig) -> tuple[PaperConfig, dict[str, float | None]]:
    """Flies the named world; returns the settings for its films, and what the search found.

    Raises:
        ValueError: As `load_world` and `fly_films`.
    """
    assert config.world is not None
    world = load_world(config.world, config)
    folder = results_folder(config, "world")
    clips = clips_for(world.spec, config)
    stamp = "synthetic" if config.world == "synthetic" else world_fingerprint(config.world)
    options = [getattr(config, field.name) for field in dataclasses.fields(WorldOptions)]
    found = fly_films(
        world,
        clips,
        folder,
        repr((stamp, options)),
        trajectories=config.trajectories,
        captions=config.captions,
        batch_size=config.batch_size,
        search=config.search,
    )
    films = dataclasses.replace(
        config,
        world=None,
        trajectories=None,
        captions=False,
        search=False,
        videos=str(folder / "films"),
        reference=str(folder / "reference"),
        poses=str(folder / "poses") if config.camera else None,
        fov_deg=world.spec.horizontal_fov_deg if config.camera else None,
    )
    return films, found


def run_paper_controls(config: ControlsConfig) -> None:
    """Measures each of the paper's metrics on films of known truth, and writes `out` and its table.

    Raises:
        ValueError: A setting is invalid, or a package is missing.
    """
    json_file(config.out)
    print(write_controls(config, measure_controls(config), measure_lab_network(config)))
    print(f"written: {config.out}")


def json_file(out: str) -> Path:
    """The file that `out` names.

    Raises:
        ValueError: It has another ending: tables and pictures get the same name, and would overwrite it.
    """
    if Path(out).suffix != ".json":
        raise ValueError(
            f"out: expected a file name that ends in .json, got {out!r}; name it FILE.json, "
            "tables and pictures are written beside it"
        )
    return Path(out)


def write_report(
    out: Path, report: dict[str, object], scenes: OracleScenes, result: OracleResult, found: EvaluationReport
) -> None:
    """Writes the files that `run_oracle` names, prints the tables, and says what was written."""
    tables = markdown_table(result) + evaluation_tables(found)
    print(tables)  # first, so that the figures of a long flight are not lost if writing fails
    files = [out, *(out.with_name(out.stem + ending) for ending in (".md", ".png", ".mp4", "_curves.png"))]
    write_text(files[0], json.dumps(report, indent=1, allow_nan=False))
    write_text(files[1], tables)
    write_image(files[2], comparison_sheet(scenes, result))
    with whole_file(files[3]) as partial:
        write_mp4(partial, comparison_film(scenes, result).numpy(), scenes.fps, crf=14)
    plot_report(files[4], result, found)
    if found.camera is not None:
        files.append(out.with_name(f"{out.stem}_paths.png"))
        titles = [f"{seed} {kind}" for seed, kind in zip(scenes.seeds, scenes.kinds, strict=True)]
        plot_paths(files[5], scenes.frame_poses(), found.camera, titles)
    print(f"written: {' '.join(map(str, files))}")


def per_scene(scenes: OracleScenes, result: OracleResult) -> list[dict[str, object]]:
    """Seed, kind of motion, caption and PSNR (dB, one per clip) of every scene."""
    return [
        {
            "seed": seed,
            "kind": kind,
            "caption": caption,
            "psnr": {name: [round(v, 3) for v in rows[i].tolist()] for name, rows in result.psnr.items()},
        }
        for i, (seed, kind, caption) in enumerate(zip(scenes.seeds, scenes.kinds, scenes.captions, strict=True))
    ]


_STOPPED, _RESUMES = "stopped; nothing is written", "stopped; the same command goes on"
EVALUATIONS = {
    "oracle": hydra_command("configs", "evaluate_oracle", OracleConfig, run_oracle, _STOPPED),
    "distillation": hydra_command("configs", "evaluate_distillation", SamplerTableConfig, run_distillation, _RESUMES),
    "paper": hydra_command("configs", "evaluate_paper", PaperConfig, run_paper, _RESUMES),
    "paper_controls": hydra_command("configs", "evaluate_paper_controls", ControlsConfig, run_paper_controls, _RESUMES),
    "blocked": hydra_command("configs", "evaluate_blocked", BlockedConfig, run_blocked, _STOPPED),
}


def main() -> None:
    """Dispatches on the first word, so that every evaluation has its own options."""
    if len(sys.argv) < 2 or sys.argv[1] not in EVALUATIONS:
        if sys.argv[1:2] in (["--help"], ["-h"]):
            print(USAGE)
            return
        sys.exit(f"error: expected an evaluation, one of {list(EVALUATIONS)}, got {sys.argv[1:2]}\n\n{USAGE}")
    EVALUATIONS[sys.argv.pop(1)]()


if __name__ == "__main__":
    main()
