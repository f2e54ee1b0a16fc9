"""Measures one film: motion, camera, features."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from model.curation.shots import ClipFrames
from model.curation.steps import Tools, moving_pixels
from model.curation.tools import estimator_errors
from model.evaluation.paper.appearance import consistency, cut_into_clips
from model.evaluation.paper.camera_control import CameraControl, camera_control, path_length
from model.evaluation.paper.film_result import FilmResult
from model.evaluation.paper.films import EvaluatedFilm, Size, known_lens, read_film, read_path
from model.evaluation.paper.motion_strength import motion_strength
from model.evaluation.paper.networks import ImageNetwork, VideoNetwork
from model.evaluation.paper.pictures import draw_sheet
from model.evaluation.paper.settings import PaperConfig


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """Networks and tools that measure; without tools only features are taken, as for the reference films."""

    video: VideoNetwork
    image: ImageNetwork
    tools: Tools | None = None


def measure_film(
    judged: EvaluatedFilm, size: Size | None, instruments: Instruments, config: PaperConfig, sheet: Path | None = None
) -> FilmResult:
    """Returns a film's measured values, and the reasons why others could not be measured.

    Args:
        judged: The film.
        size: Size of most films in the folder; a film of another size is not measured.
        instruments: Networks and tools that measure.
        config: Settings.
        sheet: File for a picture of the film; None: no picture.
    """
    begin = time.perf_counter()
    film = judged.film
    result = FilmResult(id=film.id, source=str(film.path), scene=judged.scene)
    with _reason(result, "read"):
        clip = read_film(film, size, config.most_frames)
        result.num_frames = len(clip.frames)
    if not result.reasons:
        with _reason(result, "features"):
            _take_features(result, clip, instruments, config.frames_per_clip)
        if instruments.tools is not None:
            _measure_with_tools(result, judged, clip, instruments.tools, config, sheet)
    result.seconds = round(time.perf_counter() - begin, 2)
    return result


def _take_features(result: FilmResult, clip: ClipFrames, instruments: Instruments, frames_per_clip: int) -> None:
    parts = cut_into_clips(len(clip.frames), frames_per_clip)
    result.arrays["clips"] = torch.stack([instruments.video(clip.frames[part]) for part in parts]).float()
    looks = torch.stack([instruments.image(clip.frames[part]).mean(dim=0) for part in parts]).float()
    result.arrays["looks"] = looks
    if (value := consistency(list(looks))) is not None:
        result.metrics[instruments.image.metric] = value


def _measure_with_tools(
    result: FilmResult, judged: EvaluatedFilm, clip: ClipFrames, tools: Tools, config: PaperConfig, sheet: Path | None
) -> None:
    moving: Bool[Tensor, "f h w"] | None = None
    control: CameraControl | None = None
    with _reason(result, "motion"):
        moving = moving_pixels(clip.frames, tools)
        if config.motion:
            strength = motion_strength(clip.frames, moving, tools.flow)
            result.metrics |= {
                "motion_strength_px": strength.pixels,
                "motion_strength_deg": strength.degrees,
                "foreground_flow_px": strength.flow_pixels,
                "moving_share": strength.moving_share,
            }
    if moving is None:
        return
    if config.camera:
        control = _measure_camera(result, judged, clip, moving, tools, config)
    if sheet is not None:
        draw_sheet(sheet, clip.frames, moving, tools.flow, result, control)


def _measure_camera(
    result: FilmResult,
    judged: EvaluatedFilm,
    clip: ClipFrames,
    moving: Bool[Tensor, "f h w"],
    tools: Tools,
    config: PaperConfig,
) -> CameraControl | None:
    path = None
    if config.poses is not None:
        with _reason(result, "path"):
            path = read_path(judged, len(clip.frames))
            result.metrics["path_length"] = path_length(path.c2w)
    with _reason(result, "camera"):
        lens = known_lens(judged, path, config.fov_deg, (clip.frames.shape[1], clip.frames.shape[2]))
        control = camera_control(clip, moving, None if path is None else path.c2w, lens, tools, config.solved)
        result.solved, result.unsolved = not control.unsolved, control.unsolved
        errors = {name: getattr(control, name) for name in ("trans_err", "rot_err_deg", "trans_err_metric")}
        result.metrics |= {name: value for name, value in errors.items() if value is not None}
        if path is not None and control.aligned is not None:
            result.arrays |= {"found": control.aligned, "wanted": path.c2w}
        return control
    return None


@contextmanager
def _reason(result: FilmResult, step: str) -> Iterator[None]:
    """Stores an error as the reason, so that the rest of the film, and the other films, are measured."""
    failures: tuple[type[Exception], ...] = (OSError, *estimator_errors())
    try:
        yield
    except failures as error:
        result.reasons[step] = " ".join(str(error).split())[:400] or type(error).__name__
