"""Evaluates a folder film by film: finished films are not measured again, and a bad film does not stop the others."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.curation.steps import Tools
from model.curation.tools import ToolsConfig, build_tools
from model.evaluation.paper.appearance import consistency
from model.evaluation.paper.film_result import FilmResult, load_result, save_result
from model.evaluation.paper.films import EvaluatedFilm, films_with_paths, most_common_size
from model.evaluation.paper.frechet import distance_of_halves, frechet_distance
from model.evaluation.paper.measure import Instruments, measure_film
from model.evaluation.paper.networks import build_image_network, build_video_network
from model.evaluation.paper.settings import PaperConfig
from model.fingerprint import fingerprint
from model.world.options import WorldOptions

Summary = dict[str, float | int | None]


@dataclass(frozen=True)
class PaperReport:
    """The results of an evaluation.

    Attributes:
        summary: The six metrics, means over films, and the numbers of films and clips behind them.
        standard_errors: Of the metrics that are means over films.
        networks: The networks whose features were compared.
        results: The result of every film.
    """

    summary: Summary
    standard_errors: dict[str, float]
    networks: dict[str, str]
    results: list[FilmResult]


def evaluate_films(config: PaperConfig, make_tools: Callable[[ToolsConfig], Tools] = build_tools) -> PaperReport:
    """Judges the films of `config.videos`; the folder `FILE_films` beside `config.out` gets the result of each film.

    Args:
        config: Settings.
        make_tools: Makes the estimators; another function can supply VGGSfM, VGGT or TMO behind the same protocols.

    Raises:
        FileNotFoundError: A folder holds no films.
        ValueError: No folder is named, or a package or weights are missing.
    """
    if config.videos is None:
        raise ValueError("videos, world: expected a folder of films or a world, got neither; name one")
    films = films_with_paths(config.videos, config.poses)
    references = [] if config.reference is None else films_with_paths(config.reference)
    features = Instruments(
        video=build_video_network(config.i3d, config.videomae, config.device),
        image=build_image_network(config.image_network, config.device),
    )
    everything = dataclasses.replace(features, tools=make_tools(config.tools))
    results = _measured(films, everything, config, results_folder(config, "films"))
    known = _measured(references, features, config, results_folder(config, "reference"))
    return summarise(results, known, features)


def results_folder(config: PaperConfig, name: str) -> Path:
    """Returns the folder beside the report, `FILE_name`."""
    out = Path(config.out)
    return out.with_name(f"{out.stem}_{name}")


def summarise(results: Sequence[FilmResult], references: Sequence[FilmResult], instruments: Instruments) -> PaperReport:
    """Returns the report of the measured films."""
    read = [each for each in results if "read" not in each.reasons]
    tried = [each for each in read if each.solved is not None]
    names = sorted({name for each in read for name in each.metrics} - {instruments.image.metric})
    summary: Summary = {"films": len(results), "films_measured": len(read)}
    summary |= _frechet(read, references, instruments.video.metric)
    errors = {}
    for name in names:
        values = [each.metrics[name] for each in read if name in each.metrics]
        summary[name] = sum(values) / len(values)
        summary[f"{name}_films"] = len(values)
        if len(values) > 1:
            errors[name] = float(torch.tensor(values, dtype=torch.float64).std()) / len(values) ** 0.5
    if tried:
        summary["solved_share"] = sum(bool(each.solved) for each in tried) / len(tried)
        summary["solved_share_films"] = len(tried)
    summary[instruments.image.metric] = _scene_consistency(read)
    networks = {instruments.video.metric: instruments.video.name, instruments.image.metric: instruments.image.name}
    return PaperReport(summary, errors, networks, list(results))


def _measured(
    films: Sequence[EvaluatedFilm], instruments: Instruments, config: PaperConfig, folder: Path
) -> list[FilmResult]:
    size = most_common_size(films)
    settings = _deciding_settings(config, instruments)
    results = []
    for judged in tqdm(films, desc=folder.name, unit="film", disable=not films):
        paths = [] if judged.path_file is None else [judged.path_file]
        key = fingerprint(judged.film.id, judged.scene, repr(size), settings, *paths)
        result = load_result(folder, judged.film.id, key)
        if result is None:
            sheet = folder / f"{judged.film.id}.png" if config.pictures and instruments.tools is not None else None
            result = measure_film(judged, size, instruments, config, sheet)
            save_result(folder, result, key)
        if result.reasons:
            tqdm.write(f"{result.id}: {result.ledger_line().reason}")
        results.append(result)
    return results


def _deciding_settings(config: PaperConfig, instruments: Instruments) -> str:
    """Returns, as text, the settings on which a film's result depends."""
    settings: dict[str, Any] = dataclasses.asdict(config)
    # the networks' names have digests of their weights
    flown = [field.name for field in dataclasses.fields(WorldOptions)] + [
        "world",
        "num_scenes",
        "num_clips",
        "first_seed",
    ]
    flown += ["batch_size", "captions", "trajectories", "search"]
    for name in (*flown, "out", "videos", "reference", "i3d", "videomae", "image_network"):
        del settings[name]
    settings["poses"] = config.poses is not None
    settings["networks"] = [instruments.video.name, instruments.image.name, instruments.tools is not None]
    return json.dumps(settings, sort_keys=True)


def _frechet(read: Sequence[FilmResult], references: Sequence[FilmResult], metric: str) -> Summary:
    ours, known = _all_clips(read), _all_clips(references)
    summary: Summary = {"clips": len(ours)}
    if not references:
        return summary
    enough = min(len(ours), len(known)) > 1
    return summary | {
        metric: frechet_distance(ours, known) if enough else None,
        f"{metric}_of_reference_halves": distance_of_halves(known),
        "reference_clips": len(known),
    }


def _all_clips(results: Sequence[FilmResult]) -> Float[Tensor, "n d"]:
    clips = [each.arrays["clips"] for each in results if "clips" in each.arrays]
    return torch.cat(clips) if clips else torch.zeros(0, 0)


def _scene_consistency(read: Sequence[FilmResult]) -> float | None:
    """Returns the mean over scenes of the cosine between their clips."""
    scenes: dict[str, list[Tensor]] = defaultdict(list)
    for each in read:
        scenes[each.scene].extend(each.arrays.get("looks", torch.zeros(0, 0)))
    values = [value for clips in scenes.values() if (value := consistency(clips)) is not None]
    return sum(values) / len(values) if values else None
