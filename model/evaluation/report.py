"""The results of an oracle evaluation as numbers, tables and a picture."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from model.evaluation.oracle import OracleResult, OracleScenes
from model.evaluation.world_evaluator import EvaluationReport, Section

ROWS = {
    "vae": "VAE reconstruction of the true clip (ceiling)",
    "time_stopped": "the true scene, its time stopped (knows every surface, and nothing of what moves)",
    "generated": "generated along the commanded trajectory",
    "without_caption": "the same, from the first frame alone, without its caption",
    "carried": "first frame carried along by the true geometry (imagines nothing)",
    "clip_mean": "mean of the true clip over time (best still picture, needs the truth)",
    "hold": "first frame held",
    "wrong_trajectory": "generated along another scene's trajectory",
    "mean_frame": "mean frame of all scenes",
}
_SUMMARY_ROWS = {
    "psnr_first_clip": "generated",
    "psnr_hold": "hold",
    "psnr_wrong_trajectory": "wrong_trajectory",
    "psnr_mean_frame": "mean_frame",
    "psnr_clip_mean": "clip_mean",
    "psnr_carried": "carried",
    "psnr_time_stopped": "time_stopped",
    "vae_psnr": "vae",
    "psnr_without_caption": "without_caption",
}


def summarise(result: OracleResult) -> dict[str, float]:
    """Means over scenes, dB, of the existing rows; `psnr_*` without a clip's name are of the first clip."""
    summary = {key: float(result.psnr[name][:, 0].mean()) for key, name in _SUMMARY_ROWS.items() if name in result.psnr}
    for clip in range(result.psnr["generated"].shape[1]):
        summary[f"psnr_clip_{clip + 1}"] = float(result.psnr["generated"][:, clip].mean())
    return {name: round(value, 3) for name, value in summary.items()}


def markdown_table(result: OracleResult) -> str:
    """PSNR (dB, mean over scenes ± standard error) per clip index; one scene has no standard error."""
    num_scenes, num_clips = result.psnr["generated"].shape
    counted = f"mean over {num_scenes} held-out scenes" if num_scenes > 1 else "one held-out scene"
    lines = [
        f"| PSNR, dB, {counted} | " + " | ".join(f"clip {i + 1}" for i in range(num_clips)) + " |",
        "|" + " --- |" * (num_clips + 1),
    ]
    for name, label in ROWS.items():
        if name in result.psnr:
            values = result.psnr[name]
            cells = [f"{mean:.2f}" for mean in values.mean(0).tolist()]
            if num_scenes > 1:
                errors = (values.std(dim=0) / num_scenes**0.5).tolist()
                cells = [f"{cell} ± {error:.2f}" for cell, error in zip(cells, errors, strict=True)]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def comparison_sheet(
    scenes: OracleScenes, result: OracleResult, num_scenes: int = 8, num_frames: int = 6
) -> UInt8[Tensor, "h w 3"]:
    """Truth above generated above wrong trajectory (if flown), of the first scenes, at frames spread over all clips."""
    total = scenes.frames.shape[1]
    columns = torch.linspace(0, total - 1, num_frames).round().long()
    rows = [
        torch.cat(list(frames[i, columns]), dim=1)
        for i in range(min(num_scenes, len(scenes.seeds)))
        for frames in (scenes.frames, result.generated, result.wrong)
        if frames is not None
    ]
    return torch.cat(rows, dim=0)


def comparison_film(scenes: OracleScenes, result: OracleResult, num_scenes: int = 4) -> UInt8[Tensor, "f h w 3"]:
    """Every frame of the first scenes, one below the other: on the left the truth, on the right what was generated."""
    pairs = torch.cat([scenes.frames[:num_scenes], result.generated[:num_scenes]], dim=3)
    return torch.cat(list(pairs), dim=1)


# pooled: over the pixels of all scenes at once, while the first table has the mean over scenes
_FIDELITY_ROWS = {
    "psnr_pooled": "PSNR, dB (pooled), all pixels",
    "psnr_known": "PSNR, dB (pooled), resting pixels whose surface the first frame showed",
    "psnr_seen": "PSNR, dB (pooled), resting pixels seen before the clip",
    "psnr_revealed": "PSNR, dB (pooled), resting pixels newly revealed",
    "psnr_moving": "PSNR, dB (pooled), moving objects",
    "ssim": "SSIM",
    "ssim_seen": "SSIM (pooled), seen before",
    "ssim_revealed": "SSIM (pooled), newly revealed",
    "lpips": "LPIPS",
    "share_known": "share of pixels whose surface the first frame showed",
    "share_revealed": "share of pixels newly revealed",
    "share_moving": "share of pixels on moving objects",
    "error_seen": "share of the squared error: seen before",
    "error_revealed": "share of the squared error: newly revealed",
    "error_moving": "share of the squared error: moving objects",
    "sharpness_ratio": "sharpness, generated / true",
    "contrast_ratio": "contrast, generated / true",
}
_CAMERA_COLUMNS = {
    "rot_err_deg": "RotErr, deg",
    "rot_err_deg_median": "median",
    "trans_err_m": "TransErr, m",
    "trans_err_m_median": "median",
    "trans_share": "share of path",
    "followed": "followed",
    "solved": "frames solved",
    "unseen": "too little of the first view left",
    "no_match": "no match",
    "ran_away": "ran away",
}


def evaluation_tables(found: EvaluationReport) -> str:
    """Markdown tables of every section; a section without its own table function has a row for each figure."""
    own: dict[str, Callable[[Section], str]] = {
        "fidelity": _fidelity_table,
        "determinism": _determinism_line,
        "camera": _camera_tables,
        "objects": _objects_table,
        "caption_colours": _caption_colours_table,
        "steadiness": _steadiness_table,
        "kinds": _kinds_table,
    }
    sections = found.sections.items()
    return "".join("\n" + (own[name](part) if name in own else _plain_table(name, part)) for name, part in sections)


def _fidelity_table(section: Section) -> str:
    rows = {label: section[name] for name, label in _FIDELITY_ROWS.items() if name in section}
    return _per_clip_table("fidelity", rows)


def _determinism_line(section: Section) -> str:
    return f"The first clip repeated bit for bit: {'yes' if section['repeats'] else 'NO'}.\n"


def _camera_tables(section: Section) -> str:
    names = {"generated": "generated", "floor": "floor: true frames", "vae_floor": "floor through the VAE"}
    rows = {label: section[name] for name, label in names.items() if name in section}
    clips = {f"clip {i + 1}": row for i, row in enumerate(section["per_clip"])}
    return "\n".join((_table("camera, all clips", _CAMERA_COLUMNS, rows), _table("camera", _CAMERA_COLUMNS, clips)))


def _objects_table(section: Section) -> str:
    films = {"generated": "generated", "vae": "true frames through the VAE (floor)", "backdrop": "no objects (control)"}
    rows = {}
    for film, label in films.items():
        if film in section:
            rows[f"share of the picture, {label} / true"] = section[film]["share"]
            rows[f"edges, {label} / true"] = section[film]["edges"]
    return _per_clip_table("objects", rows | {"share of all pixels, true": section["true_share"]})


_FILMS = {
    "generated": "generated",
    "true": "true frames (floor)",
    "vae": "true frames through the VAE (floor)",
    "other": "generated, another scene's caption (control)",
}


def _caption_colours_table(section: Section) -> str:
    figures = {"found": "named colours in view that are found", "named": "coloured pixels whose colour is named"}
    rows = _rows_of_films(figures, section)
    return _per_clip_table("the caption's colours", rows | {"named colours in view, all scenes": section["expected"]})


def _steadiness_table(section: Section) -> str:
    figures = {
        "colour": "change of an object's colour in two frames, grey levels",
        "size": "change of its size, octaves of area",
        "found": "share of objects found again",
    }
    return _per_clip_table("steadiness", _rows_of_films(figures, section))


def _rows_of_films(figures: Mapping[str, str], section: Section) -> dict[str, Sequence[object]]:
    films = [(film, label) for film, label in _FILMS.items() if film in section]
    return {f"{what}, {label}": section[film][name] for name, what in figures.items() for film, label in films}


def _kinds_table(kinds: Section) -> str:
    columns = {"psnr": "PSNR, dB", "psnr_hold": "first frame held"} | _CAMERA_COLUMNS
    floors = {"floor": "floor", "vae_floor": "through the VAE"}
    units = {"rot_err_deg": "deg", "trans_err_m": "m", "trans_share": "share of path"}
    columns |= {
        f"{floor} {name}": f"{label}, {unit}" for floor, label in floors.items() for name, unit in units.items()
    }
    rows = {}
    for kind, entry in kinds.items():
        floor = {f"{f} {name}": entry[f][name] for f in floors if f in entry for name in units}
        rows[kind] = {**entry, **entry["camera"], **floor}
    return _table("single moves", columns, rows)


def _per_clip_table(title: str, rows: Mapping[str, Sequence[object]]) -> str:
    columns = {i: f"clip {i + 1}" for i in range(max(map(len, rows.values())))}
    return _table(title, columns, {label: dict(enumerate(values)) for label, values in rows.items()})


def _plain_table(title: str, section: Section) -> str:
    rows: dict[str, dict[str, object]] = {}
    for name, value in section.items():
        for inner, item in value.items() if isinstance(value, dict) else [("", value)]:
            shown = " ".join(map(_cell, item)) if isinstance(item, list) else item
            rows[f"{name} {inner}".strip()] = {"value": shown}
    return _table(title, {"value": "value"}, rows)


def _table(title: str, columns: Mapping[Any, str], rows: Mapping[str, Mapping[Any, object]]) -> str:
    lines = ["| " + " | ".join([title, *columns.values()]) + " |", "|" + " --- |" * (len(columns) + 1)]
    for label, row in rows.items():
        lines.append("| " + " | ".join([label, *(_cell(row.get(name)) for name in columns)]) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)
