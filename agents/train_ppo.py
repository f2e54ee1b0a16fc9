"""`python -m agents.train_ppo task=GoalView`: PPO in TorchRL, on a CPU, in minutes; resumes exactly after a kill.

Source: Schulman et al. (2017), the clipped objective; Schulman et al. (2016), generalised advantage estimation.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from agents.explore import EXIT_BAD_INPUT
from cc2env.files import keep_settings, lock_folder, write_text
from configs.command_line import plain_text, stops_in_one_line

if TYPE_CHECKING:
    from agents.ppo_learner import Learner

_STATE, _CURVE = "state.safetensors", "curve.jsonl"


@dataclass(kw_only=True)
class TrainPPOConfig:
    """`python -m agents.train_ppo`; see `--help`.

    Attributes:
        num_envs: Episodes that are flown side by side, from reset to the end, between two updates.
        max_episode_steps: Clips of an episode; without it, the task's own.
        minibatch: Clips of one update, at least 2: advantages are normalised in it.
        learning_rate: At the start; it falls to a tenth in `num_iterations`.
        reward_scale: Brings rewards to the order of 1 for the critic.
        entropy_coef: Weight of the entropy of the actions.
    """

    task: str = "Explore"
    world: str = "synthetic"
    out: str | None = None
    seed: int = 0
    num_iterations: int = 40
    num_envs: int = 8
    max_episode_steps: int | None = None
    learning_rate: float = 3e-3
    num_epochs: int = 8
    minibatch: int = 64
    gamma: float = 0.95
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_coef: float = 0.0
    max_grad_norm: float = 0.5
    reward_scale: float = 1.0
    progress: bool = True


def train(config: TrainPPOConfig, world: Any = None) -> Path:
    """Trains, or goes on where a run of the same settings stopped; returns the folder with the agent.

    Args:
        config: The settings.
        world: A world that is already built, in the place of the one that the settings name.

    Raises:
        ValueError: A setting is out of range, or the folder holds a run of other settings.
        FileNotFoundError: There is no such world.
    """
    from tqdm import tqdm

    from agents.ppo import save_actor
    from agents.ppo_learner import Learner

    folder = _folder(config)
    _check(config)
    learner = Learner(config, config.world if world is None else world)
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("out", "progress")}
    keep_settings(folder, settings, free=["num_iterations"])
    if (folder / _STATE).is_file():
        learner.load(folder / _STATE)
    curve = _read_curve(folder / _CURVE, learner.iteration)
    bar = tqdm(
        total=config.num_iterations, initial=learner.iteration, desc=f"PPO {config.task}", disable=not config.progress
    )
    with bar:
        while learner.iteration < config.num_iterations:
            record = learner.iterate()
            curve.append({"iteration": learner.iteration, **record})
            _save(folder, learner, curve)
            save_actor(folder, learner.actor_network)
            bar.set_postfix_str(f"return {record['return']:.2f}", refresh=False)
            bar.update()
    return folder


def _folder(config: TrainPPOConfig) -> Path:
    return Path("runs") / "train_ppo" / config.task if config.out is None else Path(config.out)


def _check(config: TrainPPOConfig) -> None:
    from agents.ppo_network import TASK_ENTRIES

    if config.task not in TASK_ENTRIES:
        raise ValueError(f"task: expected one of {list(TASK_ENTRIES)}, got {config.task!r}; choose one")
    for name, least in (("num_iterations", 1), ("num_envs", 1), ("num_epochs", 1), ("minibatch", 2)):
        if getattr(config, name) < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {getattr(config, name)}")
    if config.max_episode_steps is not None and config.max_episode_steps < 1:
        raise ValueError(
            f"max_episode_steps: expected None or an integer of at least 1, got {config.max_episode_steps}; "
            "leave it out for the task's own"
        )
    if config.num_envs == config.max_episode_steps == 1:
        raise ValueError(
            "num_envs, max_episode_steps: expected at least 2 clips for each update, got 1; fly more episodes"
        )
    for name in ("learning_rate", "clip", "max_grad_norm", "reward_scale"):
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}: expected a positive number, got {getattr(config, name)}")
    for name in ("gamma", "gae_lambda"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(config, name)}")


def _save(folder: Path, learner: Learner, curve: list[dict[str, float]]) -> None:
    # the curve first: lines beyond the state are cut off when the run goes on
    _write(folder / _CURVE, "".join(json.dumps(record) + "\n" for record in curve))
    learner.save(folder / _STATE)


def _read_curve(path: Path, iteration: int) -> list[dict[str, float]]:
    lines = path.read_text().splitlines() if path.is_file() else []
    return [record for line in lines if (record := json.loads(line))["iteration"] <= iteration]


def _write(path: Path, text: str) -> None:
    write_text(path, text)


@stops_in_one_line("stopped; the same command goes on")
@plain_text(TrainPPOConfig)
@hydra.main(version_base=None, config_path="pkg://configs", config_name="train_ppo")
def _hydra_main(config: DictConfig) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, TrainPPOConfig)
    try:
        with lock_folder(_folder(settings)):
            print(f"written: {train(settings)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def main() -> None:
    """Runs the command line: `python -m agents.train_ppo --help`."""
    ConfigStore.instance().store(name="train_ppo_schema", node=TrainPPOConfig)
    _hydra_main()


if __name__ == "__main__":
    main()
