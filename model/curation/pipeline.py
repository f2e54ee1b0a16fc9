"""Turns a folder of films into a data set: each film separately, in parallel; the balance over all films comes last."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.curation.film_folder import FilmFolder
from model.curation.films import Film, find_films
from model.curation.ledger import LedgerLine, Verdict
from model.curation.shots import ClipFrames, ShotsConfig, read_clips
from model.curation.steps import ClipRejected, StepLog, StepsConfig, Tools, label_clip
from model.curation.tools import ToolsConfig, build_tools, estimator_errors
from model.curation.workers import run_all
from model.data.cropping import crop_box
from model.data.film_frames import film_frames
from model.data.manifest import ClipRecord
from model.device import usable_device
from model.estimators.sfm import ReconstructionFailed
from model.geometry.trajectory import CameraTrajectory
from model.settings_file import keep_settings

MakeTools = Callable[[ToolsConfig], Tools]


@dataclass(kw_only=True)
class CurationConfig:
    """All settings that affect the result for a clip; a data set stores those that it was made with.

    Attributes:
        shots: How films are cut into clips.
        tools: Which estimators.
        steps: What the steps demand.
        keep_unsolved: Clips that fail at poses or scale stay, as video without a camera (the paper trains on both).
    """

    shots: ShotsConfig = field(default_factory=ShotsConfig)
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    steps: StepsConfig = field(default_factory=StepsConfig)
    keep_unsolved: bool = False


def curate_films(
    videos: str | Path,
    out: str | Path,
    config: CurationConfig,
    *,
    num_workers: int = 1,
    backend: str = "loky",
    make_tools: MakeTools | None = build_tools,
) -> None:
    """Processes every film that is not finished yet; `OUT/work` holds the results of each film.

    After a kill at any moment, the same call continues: at most one clip of each worker is computed again.

    Args:
        videos: The folder of films.
        out: The data set's folder.
        config: Settings.
        num_workers: Processes.
        backend: joblib's: loky, ray ...
        make_tools: Builds the estimators, once in each process; None only cuts the films into clips without a camera.

    Raises:
        FileNotFoundError: there is no film.
        ValueError: the folder was begun with another configuration.
    """
    films = find_films(videos)
    if make_tools is not None:
        usable_device(config.tools.device)
    settings = dataclasses.asdict(config)
    is_begun = any(Path(out).glob("work/*/ledger.jsonl"))
    keep_settings(out, {"shots": settings["shots"]} if make_tools is None else settings, is_begun=is_begun)
    folders = {film.id: FilmFolder(Path(out) / "work" / film.id) for film in films}
    waiting = [film for film in films if not folders[film.id].is_finished]
    dead = run_all(
        curate_film,
        [(film, folders[film.id], config, make_tools) for film in waiting],
        num_workers=num_workers,
        backend=backend,
        bar=tqdm(total=len(films), initial=len(films) - len(waiting), desc="curating films", unit="film"),
        is_suspect=lambda index: folders[waiting[index].id].is_started and not folders[waiting[index].id].is_finished,
    )
    for index in dead:
        _record_death(waiting[index], folders[waiting[index].id])


def curate_film(film: Film, folder: FilmFolder, config: CurationConfig, make_tools: MakeTools | None) -> None:
    """Processes the clips of a film that have no line yet. A fault of the film becomes a line, never an error.

    Without tools, its clips stay unlabelled.
    """
    with folder:
        if folder.is_finished:
            return
        tools = None if make_tools is None else _tools(make_tools, config.tools)
        try:
            for clip in _clips(film, config.shots):
                clip_id = f"{film.id}_{clip.shot:03d}_{clip.index:03d}"
                if clip_id not in folder:
                    folder.add(*curate_clip(clip_id, film, clip, tools, config))
        except ClipRejected as error:
            if film.id not in folder:
                folder.add(_line(film.id, film, StepLog(), "rejected", error))
        folder.finish()


def _clips(film: Film, config: ShotsConfig) -> Iterator[ClipFrames]:
    """Yields the film's clips; raises ClipRejected where it cannot be read, but not for the consumer's errors."""
    reading: tuple[type[Exception], ...] = (OSError, *estimator_errors())
    number = 0
    try:
        for clip in read_clips(film.path, config):
            number += 1
            yield clip
    except reading as error:
        raise ClipRejected(f"unreadable: {error}") from error
    if not number:
        raise ClipRejected("no shot is long enough for a clip")


def curate_clip(
    clip_id: str, film: Film, clip: ClipFrames, tools: Tools | None, config: CurationConfig
) -> tuple[LedgerLine, ClipRecord | None]:
    """Returns a clip's line, and its record if it stays."""
    log = StepLog()
    record = ClipRecord(id=clip_id, source=str(film.path), times=clip.times, caption=film.caption)
    if tools is None:
        return _line(clip_id, film, log, "unlabelled", "not to be labelled"), record
    expected: tuple[type[Exception], ...] = (ClipRejected, ReconstructionFailed, *estimator_errors())
    try:
        label = label_clip(clip, tools, config.steps, log, config.shots.min_frames)
    except expected as error:
        if config.keep_unsolved and log.step in ("poses", "scale"):
            return _line(clip_id, film, log, "unlabelled", error), record
        return _line(clip_id, film, log, "rejected", error), None
    camera = CameraTrajectory(label.camera.c2w, full_picture_intrinsics(film.path, label.camera.intrinsics, clip))
    labelled = dataclasses.replace(
        record,
        times=clip.times[label.part],
        camera=camera,
        scale=label.scale,
        scores=log.numbers,
        provenance=config.tools.provenance(),
    )
    return _line(clip_id, film, log, "kept"), labelled


def full_picture_intrinsics(path: Path, intrinsics: Float[Tensor, "f 4"], clip: ClipFrames) -> Float[Tensor, "f 4"]:
    """Returns the lens of the film's own pictures, which the record names; the clip's pictures were cropped."""
    first = next(film_frames(path))
    top, left, height, width = crop_box(first.height, first.width, *clip.frames.shape[1:3])
    in_pixels = intrinsics * intrinsics.new_tensor([width, height] * 2) + intrinsics.new_tensor([0, 0, left, top])
    return in_pixels / intrinsics.new_tensor([first.width, first.height] * 2)


def _tools(make_tools: MakeTools, config: ToolsConfig) -> Tools:
    return _cached_tools(make_tools, json.dumps(dataclasses.asdict(config)))


@lru_cache(maxsize=1)
def _cached_tools(make_tools: MakeTools, config: str) -> Tools:
    torch.set_num_threads(1)  # films run in parallel, and one thread gives the same bits every time
    return make_tools(ToolsConfig(**json.loads(config)))


def _line(line_id: str, film: Film, log: StepLog, verdict: Verdict, reason: str | Exception = "") -> LedgerLine:
    text = " ".join(str(reason).split())[:500] or (type(reason).__name__ if isinstance(reason, Exception) else "")
    return LedgerLine(
        id=line_id,
        source=str(film.path),
        verdict=verdict,
        step=log.step,
        reason=text,
        numbers=log.numbers,
        seconds=log.seconds,
    )


def _record_death(film: Film, folder: FilmFolder) -> None:
    with folder:
        folder.add(_line(film.id, film, StepLog(), "rejected", "the process died on this film, twice"))
        folder.finish()
