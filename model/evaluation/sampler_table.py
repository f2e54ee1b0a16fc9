"""Compares samplers, as in the paper's Table 1: their cost, how well they follow the camera, and what they show."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from tqdm import tqdm

from model.data.clips import ClipSetConfig
from model.evaluation.finished_rows import FinishedRows, Row
from model.evaluation.oracle import OracleResult, OracleScenes, fly
from model.evaluation.world_evaluator import EvaluationConfig, WorldEvaluator
from model.world.camera_world import CameraWorld
from model.world.protocol import WorldState

Stills = dict[str, UInt8[Tensor, "n clips h w 3"]]

_CLIPS = "clips 1, 4, 8 and later"
_COLUMNS = {
    "evaluations": "evaluations a clip",
    "trans_err_m": "TransErr, m",
    "rot_err_deg": "RotErr, degrees",
    "frames_found": "frames found",
    "share": f"objects' share, {_CLIPS}",
    "edges": "their edges, likewise",
    "psnr_known": "PSNR where the truth is known, dB, likewise",
    "motion_ratio": "motion",
    "caption_found": "named colours in view that are found, likewise",
    "caption_named": "coloured pixels whose colour is named, likewise",
    "whole_prompts": "openings with all colours of the prompt",
    "network_ms": "network, ms a clip",
    "decoding_ms": "decoding and the rest, ms",
    "frames_per_second": "frames a second",
    "times_as_fast": "times as fast as the first",
}


@dataclass(frozen=True)
class SamplerRow:
    """One row: a world with its sampler, and a text that identifies both."""

    world: CameraWorld
    identity: str


def evaluate_samplers(
    samplers: Mapping[str, SamplerRow],
    clips: ClipSetConfig,
    scenes: OracleScenes,
    config: EvaluationConfig,
    finished: FinishedRows,
    timing_rounds: int = 5,
) -> tuple[list[Row], Stills]:
    """Flies every world through all scenes; returns the rows of the table, in order, and the first frame of every clip.

    Films and their figures are taken from `finished` if they are there; times are always measured, since they can be
    compared only within one process.

    Source: the paper, Table 1, with the renderer's truth in place of structure from motion.
    """
    times = time_clips({name: sampler.world for name, sampler in samplers.items()}, scenes, timing_rounds)
    evaluator = WorldEvaluator(next(iter(samplers.values())).world, None, clips, scenes, config)
    flown = f"{clips} {len(scenes.seeds)} {scenes.with_caption} {config.batch_size}"
    measures = {field.name: getattr(config, field.name) for field in fields(EvaluationConfig)}
    rows: list[Row] = []
    stills: Stills = {}
    for number, (name, sampler) in enumerate(samplers.items(), start=1):
        print(f"row {number} of {len(samplers)}: {name}", flush=True)
        world, made_from = sampler.world, f"{sampler.identity} {flown}"
        film = finished.film(made_from, partial(fly, world, scenes, scenes.poses, config.batch_size, name))
        evaluator = evaluator.with_world(world)
        quality = finished.row(f"{made_from} {measures}", partial(_quality, evaluator, film))
        stills[name] = film[:, :: world.spec.frames_per_clip].clone()
        speed = round(world.spec.frames_per_clip * 1000 / sum(times[name].values()), 1)
        evaluations = world.spec.evaluations_per_clip
        rows.append({"name": name, "evaluations": evaluations, **quality, **times[name], "frames_per_second": speed})
    slowest = sum(times[str(rows[0]["name"])].values())
    for row in rows:
        row["times_as_fast"] = round(slowest / sum(times[str(row["name"])].values()), 2)
    return rows, stills


def _quality(evaluator: WorldEvaluator, film: UInt8[Tensor, "n f h w 3"]) -> Row:
    found = evaluator.evaluate(OracleResult(psnr={}, generated=film, wrong=None))
    summary, sections = found.summary(), found.sections
    row: Row = {name: summary.get(name) for name in ("trans_err_m", "rot_err_deg", "motion_ratio", "whole_prompts")}
    if "camera_frames" in summary:
        row["frames_found"] = [int(summary["camera_solved"]), int(summary["camera_frames"])]
    if "objects" in sections:
        row |= {name: sections["objects"]["generated"][name] for name in ("share", "edges")}
    if "caption_colours" in sections:
        row |= {f"caption_{name}": shares for name, shares in sections["caption_colours"]["generated"].items()}
    return row | {"psnr_known": sections["fidelity"]["psnr_known"]}


def time_clips(worlds: Mapping[str, CameraWorld], scenes: OracleScenes, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the network, and of decoding and the rest, for one clip of one episode: the median of `rounds`.

    The worlds take turns, so that other load on the machine affects all alike; the first round is not counted.
    """
    states = {name: _opened(world, scenes) for name, world in worlds.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in worlds}
    for _ in tqdm(range(rounds + 1), desc="timing a clip of every row", unit="round"):
        for name, world in worlds.items():
            poses = states[name].c2w[:, None] @ scenes.poses[:1, 1 : 1 + world.spec.poses_per_clip].to(states[name].c2w)
            with _network_seconds(world.dit) as network:
                begin = _now()
                world.extend(states[name], poses)
                whole = _now() - begin
            measured[name].append((sum(network), whole - sum(network)))
    return {
        name: dict(
            zip(
                ("network_ms", "decoding_ms"),
                (round(1000 * statistics.median(part), 1) for part in zip(*pairs[1:], strict=True)),
                strict=True,
            )
        )
        for name, pairs in measured.items()
    }


def _opened(world: CameraWorld, scenes: OracleScenes) -> WorldState:
    """An episode whose context has its full length."""
    state, _ = world.start(scenes.seeds[:1], scenes.captions[:1], scenes.frames[:1, 0], scenes.intrinsics[None])
    for _ in range(2):
        path = state.c2w[:, None].expand(1, world.spec.poses_per_clip, 4, 4)
        state, _ = world.extend(state, path)
    return state


@contextmanager
def _network_seconds(network: nn.Module) -> Iterator[list[float]]:
    """Collects the seconds of every forward."""
    begun, seconds = [0.0], []
    hooks = [
        network.register_forward_pre_hook(lambda *_: begun.__setitem__(0, _now())),
        network.register_forward_hook(lambda *_: seconds.append(_now() - begun[0])),
    ]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def sampler_table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| sampler | " + " | ".join(_COLUMNS.values()) + " |", "|" + " --- |" * (1 + len(_COLUMNS))]
    lines += [f"| {row['name']} | " + " | ".join(_shown(row, name) for name in _COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _shown(row: Row, column: str) -> str:
    value = row.get(column)
    return " of ".join(map(str, value)) if column == "frames_found" and isinstance(value, list) else _cell(value)


def _cell(value: object) -> str:
    if isinstance(value, list):  # one value per clip: shows the first, the fourth, and the mean from the eighth on
        known = [value[:1], value[3:4], value[7:]]
        means = [[v for v in part if v is not None] for part in known]
        return ", ".join(f"{statistics.mean(part):.2f}" for part in means if part)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "-" if value is None else str(value)


def sampler_sheet(
    stills: Stills, true: UInt8[Tensor, "n f h w 3"], frames_per_clip: int, num_scenes: int = 10
) -> UInt8[Tensor, "rows columns 3"]:
    """A picture: for each of the first scenes a line of the truth and one line per sampler; a column for the first
    frame and every clip."""
    lines = [
        torch.cat(list(frames[scene]), dim=1)
        for scene in range(min(num_scenes, len(true)))
        for frames in (true[:, ::frames_per_clip], *stills.values())
    ]
    return torch.cat(lines)
