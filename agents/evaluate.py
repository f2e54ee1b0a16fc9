"""`python -m agents.evaluate`: the table of task x agent x world, with intervals over seeds; resumes where it stopped.

Seeds are the outer loop: whenever the command stops, two cells' numbers of episodes differ by at most one.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from agents.evaluation_table import write_tables
from agents.frontier import FrontierPolicy
from agents.planner import Budget, ForkedFutures, PlannerPolicy, PoseFutures
from agents.ppo import PPOPolicy, agent_folder
from agents.random import RandomPolicy
from agents.rollout import Policy, rollout
from agents.scripted import ScriptedPolicy
from cc2env import TASK_IDS, world_names
from cc2env.env import CameraCtrlWorldEnv
from cc2env.files import fingerprint, lock_folder, shipped_worlds, world_fingerprint, write_text
from cc2env.viewer import EpisodePage, Viewer
from configs.command_line import hydra_command

AGENTS = ("random", "scripted", "frontier", "planner", "ppo")
_NO_LIMIT = 10**9
_EPISODES = "episodes.jsonl"


@dataclass(kw_only=True)
class EvaluateConfig:
    """`python -m agents.evaluate`; see `--help`.

    Attributes:
        first_seed: Beyond the seeds that the shipped agents were trained on.
        num_clips: Clips of an episode, by task.
        scripts: Moves of the scripted agent, by task; the agent does not read the task's entries of `info`.
        budgets: The planner's budgets, by task.
        imagination: How the planner judges: `poses` or `forks`.
        ppo: Folder of the trained agents, one by task; None: the shipped ones.
        sampler: Arguments of `gymnasium.make` for learned worlds: not for `synthetic` or a registered world.
        viewer: Shows the episodes on a page in the browser while they are flown.
        port: Port of that page; 0 takes a free one.
    """

    tasks: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=lambda: list(AGENTS))
    worlds: list[str] = field(default_factory=lambda: ["synthetic", "tiny"])
    num_seeds: int = 20
    first_seed: int = 10_000
    out: str = "runs/evaluate_agents"
    num_clips: dict[str, int] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    imagination: str = "poses"
    ppo: str | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    progress: bool = True
    viewer: bool = False
    port: int = 0


@dataclass(frozen=True)
class Cell:
    """A cell of the table, and the settings that its numbers depend on."""

    world: str
    task: str
    agent: str
    settings: dict[str, Any]


def evaluate(config: EvaluateConfig, worlds: dict[str, Any] | None = None) -> Path:
    """Flies all episodes that are not flown yet and returns the folder with `table.md` and `table.json`.

    Args:
        config: The settings.
        worlds: Worlds that are already built, by the names that the settings use.

    Raises:
        ValueError: A name is unknown or a number out of range.
        FileNotFoundError: There is no such world.
    """
    _check(config)
    folder, cells = Path(config.out), list(_cells(config, worlds or {}))
    folder.mkdir(parents=True, exist_ok=True)
    records = _read(folder / _EPISODES)
    flown = {_key(record) for record in records}
    wanted = [
        (cell, seed) for seed in _seeds(config) for cell in cells if _key({**vars(cell), "seed": seed}) not in flown
    ]
    envs: dict[tuple[str, str], gym.Env[Any, Any]] = {}
    with (folder / _EPISODES).open("a") as file, _watched(config) as page:
        for cell, seed in tqdm(wanted, desc="evaluating", unit="episode", disable=not config.progress):
            place = (cell.world, cell.task)
            if place not in envs:
                env = _make(config, cell, worlds or {})
                envs[place] = env if page is None else Viewer(env, page)
            record = {**vars(cell), "seed": seed, **_fly(config, cell, envs[place], seed)}
            records.append(record)
            file.write(json.dumps(record) + "\n")
            file.flush()
    held = {_key(record): record for record in records}
    chosen = [held[_key({**vars(cell), "seed": seed})] for cell in cells for seed in _seeds(config)]
    write_tables(folder, chosen, config.agents)
    return folder


@contextmanager
def _watched(config: EvaluateConfig) -> Iterator[EpisodePage | None]:
    """Opens the page on which the episodes can be watched, if one is wanted."""
    if not config.viewer:
        yield None
        return
    page = EpisodePage(port=config.port)
    print(f"watch at {page.address}", flush=True)
    try:
        yield page
    finally:
        page.close()


def _seeds(config: EvaluateConfig) -> range:
    return range(config.first_seed, config.first_seed + config.num_seeds)


def _cells(config: EvaluateConfig, worlds: dict[str, Any]) -> Iterator[Cell]:
    """All cells of the table that can be filled."""
    for world in config.worlds:
        weights = None if world == "synthetic" or world in worlds else world_fingerprint(world)
        for task in config.tasks:
            for agent in config.agents:
                settings = _settings(config, world, task, agent)
                if settings is not None:
                    yield Cell(world, task, agent, settings if weights is None else {**settings, "weights": weights})


def _settings(config: EvaluateConfig, world: str, task: str, agent: str) -> dict[str, Any] | None:
    """What a cell's numbers depend on; None where the agent is not made for the task."""
    settings: dict[str, Any] = {"num_clips": config.num_clips[task]}
    if _is_learned(world):
        settings["sampler"] = _sampler(config)
    match agent:
        case "scripted":
            settings["script"] = config.scripts[task]
        case "frontier" if task != "Explore":
            return None
        case "planner":
            budget = config.budgets.get(task, Budget(candidates=64, iterations=5))
            settings |= {"budget": vars(budget), "imagination": config.imagination}
        case "ppo":
            source = _ppo_source(config, task)
            if source is None:
                return None
            settings["ppo"] = fingerprint(source / "actor.safetensors")[:16]
    return settings


def _sampler(config: EvaluateConfig) -> dict[str, Any]:
    return {name: value for name, value in config.sampler.items() if value is not None}


def _is_learned(world: str) -> bool:
    return world in shipped_worlds() or world not in world_names()


def _ppo_source(config: EvaluateConfig, task: str) -> Path | None:
    try:
        return agent_folder(task if config.ppo is None else Path(config.ppo) / task)
    except FileNotFoundError:
        return None


def _make(config: EvaluateConfig, cell: Cell, worlds: dict[str, Any]) -> gym.Env[Any, Any]:
    if cell.world in worlds:
        return CameraCtrlWorldEnv(worlds[cell.world], task=cell.task)
    sampler = _sampler(config) if _is_learned(cell.world) else {}
    return gym.make(TASK_IDS[cell.task], max_episode_steps=_NO_LIMIT, world=cell.world, **sampler)


def _policy(config: EvaluateConfig, cell: Cell, env: gym.Env[Any, Any], seed: int) -> Policy:
    space: Any = env.action_space
    match cell.agent:
        case "random":
            return RandomPolicy(space, seed)
        case "scripted":
            return ScriptedPolicy(space, cell.settings["script"])
        case "frontier":
            return FrontierPolicy(space)
        case "planner":
            imagination = PoseFutures(env) if config.imagination == "poses" else ForkedFutures(env)
            return PlannerPolicy(env, Budget(**cell.settings["budget"]), seed, imagination)
        case _:
            source = _ppo_source(config, cell.task)
            assert source is not None
            return PPOPolicy(space, source)


def _fly(config: EvaluateConfig, cell: Cell, env: gym.Env[Any, Any], seed: int) -> dict[str, Any]:
    policy, started = _policy(config, cell, env, seed), time.perf_counter()
    episode = rollout(env, policy, cell.settings["num_clips"], seed=seed, show_progress=False)
    return {
        "return": sum(episode.rewards),
        "clips": len(episode.clips),
        "success": episode.last_info.get("is_success"),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _key(record: dict[str, Any]) -> str:
    return json.dumps([record[name] for name in ("world", "task", "agent", "seed", "settings")], sort_keys=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """The episodes so far; an incomplete last line, from a killed process, is removed from the file."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        write_text(path, "".join(whole))
    return [json.loads(line) for line in whole]


def _check(config: EvaluateConfig) -> None:
    for name, given, known in (("agents", config.agents, AGENTS), ("tasks", config.tasks, tuple(TASK_IDS))):
        if not given or not set(given) <= set(known):
            raise ValueError(f"{name}: expected some of {list(known)}, got {given}; check the spelling")
    if config.num_seeds < 1 or not config.worlds:
        raise ValueError(f"num_seeds, worlds: expected at least one, got {config.num_seeds} and {config.worlds}")
    if config.imagination not in ("poses", "forks"):
        raise ValueError(f"imagination: expected poses or forks, got {config.imagination!r}; choose one")
    if config.port and not config.viewer:
        raise ValueError(f"port: expected 0 without a viewer, got {config.port}; give viewer=true")
    for name, values in (("num_clips", config.num_clips), ("scripts", config.scripts)):
        if missing := sorted(set(config.tasks) - set(values)):
            raise ValueError(f"{name}: expected one for each task, got none for {missing}; give {name}.{missing[0]}=")


def run(config: EvaluateConfig) -> None:
    """Flies the episodes and prints the table."""
    with lock_folder(config.out):
        folder = evaluate(config)
    print((folder / "table.md").read_text())
    print(f"written: {folder}")


main = hydra_command("configs", "evaluate_agents", EvaluateConfig, run, "stopped")


if __name__ == "__main__":
    main()
