"""From episodes to a table: means with 95 % intervals, as Markdown for people and JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cc2env.files import write_text

_RESAMPLES = 10_000


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean: percentiles of the means of 10,000 seeded resamples.

    Source: Efron (1979), the bootstrap; returns are not Gaussian (an arrival is a jump). Of one value, it has width 0.
    """
    samples = np.asarray(values, np.float64)
    draws = np.random.default_rng(0).integers(len(samples), size=(_RESAMPLES, len(samples)))
    low, high = np.percentile(samples[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def summarise(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns for each (world, task, agent), in order of appearance: mean return, interval, successes, clips, time."""
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in records:
        cells.setdefault((record["world"], record["task"], record["agent"]), []).append(record)
    return [_summary(*place, held) for place, held in cells.items()]


def _summary(world: str, task: str, agent: str, held: list[dict[str, Any]]) -> dict[str, Any]:
    returns, clips = [each["return"] for each in held], [each["clips"] for each in held]
    successes = [each["success"] for each in held if each["success"] is not None]
    return {
        "world": world,
        "task": task,
        "agent": agent,
        "num_seeds": len(held),
        "mean": float(np.mean(returns)),
        "interval": interval(returns),
        "success": float(np.mean(successes)) if successes else None,
        "clips": float(np.mean(clips)),
        "seconds_per_clip": sum(each["seconds"] for each in held) / sum(clips),
        "settings": held[0]["settings"],
    }


def markdown(summary: Sequence[dict[str, Any]], agents: Sequence[str]) -> str:
    """Returns the table: a row for each task in a world, a column for each agent."""
    rows = list(dict.fromkeys((each["world"], each["task"]) for each in summary))
    held = {(each["world"], each["task"], each["agent"]): each for each in summary}
    lines = [f"| world | task | {' | '.join(agents)} |", "| --- " * (2 + len(agents)) + "|"]
    for world, task in rows:
        cells = [_cell(held.get((world, task, agent))) for agent in agents]
        lines.append(f"| {world} | {task} | {' | '.join(cells)} |")
    numbers = sorted({each["num_seeds"] for each in summary})
    clips = {each["task"]: each["settings"]["num_clips"] for each in summary}
    lines += [
        "",
        f"Mean return [95 % interval] over {' to '.join(map(str, numbers))} seeds; successes in per cent where the "
        f"task knows success; clips of an episode at most: {', '.join(f'{t} {n}' for t, n in clips.items())}. "
        "— : the agent is not made for the task.",
    ]
    return "\n".join(lines) + "\n"


def _cell(each: dict[str, Any] | None) -> str:
    if each is None:
        return "—"
    low, high = each["interval"]
    digits = 0 if abs(each["mean"]) >= 100 else 2
    text = f"{each['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return text if each["success"] is None else f"{text}, {100 * each['success']:.0f} %"


def write_tables(folder: Path, records: Sequence[dict[str, Any]], agents: Sequence[str]) -> None:
    """Writes `table.md` and `table.json`."""
    summary = summarise(records)
    write_text(folder / "table.json", json.dumps(summary, indent=1) + "\n")
    write_text(folder / "table.md", markdown(summary, agents))
