"""`python -m agents.train_ppo task=GoalView`: PPO in TorchRL, on a CPU, in minutes; resumes exactly after a kill.

Source: Schulman et al. (2017), the clipped objective; Schulman et al. (2016), generalised advantage estimation.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.ppo_settings import TrainPPOConfig
from cc2env.files import keep_settings, lock_folder, write_text
from configs.command_line import hydra_command

if TYPE_CHECKING:
    from agents.ppo_learner import Learner

_STATE, _CURVE = "state.safetensors", "curve.jsonl"


def train(config: TrainPPOConfig, world: Any = None) -> Path:
    """Trains, or resumes a stopped run of the same settings; returns the folder with the agent.

    Args:
        config: The settings.
        world: A built world, instead of the one that the settings name.

    Raises:
        ValueError: A setting is out of range, or the folder holds a run of other settings.
        FileNotFoundError: There is no such world.
    """
    from tqdm import tqdm

    from agents.ppo import save_actor
    from agents.ppo_learner import Learner

    folder = _folder(config)
    config.validate()
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


def _save(folder: Path, learner: "Learner", curve: list[dict[str, float]]) -> None:
    # the curve first: a resumed run cuts off its lines beyond the state
    write_text(folder / _CURVE, "".join(json.dumps(record) + "\n" for record in curve))
    learner.save(folder / _STATE)


def _read_curve(path: Path, iteration: int) -> list[dict[str, float]]:
    lines = path.read_text().splitlines() if path.is_file() else []
    return [record for line in lines if (record := json.loads(line))["iteration"] <= iteration]


def run(config: TrainPPOConfig) -> None:
    """Trains and says what was written."""
    with lock_folder(_folder(config)):
        print(f"written: {train(config)}")


main = hydra_command("configs", "train_ppo", TrainPPOConfig, run)


if __name__ == "__main__":
    main()
