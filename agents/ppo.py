"""A trained agent that flies in any world: weights as safetensors with their settings beside them, never a pickle."""

import dataclasses
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from agents.ppo_settings import TASK_ENTRIES, NetworkConfig

if TYPE_CHECKING:
    from agents.ppo_network import ActorNetwork

_WEIGHTS, _SETTINGS = "actor.safetensors", "actor.json"


class PPOPolicy:
    """Flies the mean action of a policy trained by PPO; a function of the last observation and info alone.

    Args:
        action_space: The environment's action space.
        source: The folder of `python -m agents.train_ppo`, or the name of a shipped agent: `Explore`, `GoalView`.

    Raises:
        FileNotFoundError: There is no such agent.
        ValueError: The agent's files are damaged, or it was trained for clips of another length.
    """

    def __init__(self, action_space: Box, source: str | Path) -> None:
        self.network = load_actor(agent_folder(source))
        self.high: np.ndarray = action_space.high
        poses = self.network.config.poses_per_clip
        if len(self.high) != poses:
            raise ValueError(f"source: expected an agent for {len(self.high)} poses a clip, got {poses}; train one")

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the mean action.

        Raises:
            ValueError: `info` lacks entries of the task that the agent was trained for.
        """
        import torch
        from tensordict import TensorDict

        from agents.ppo_network import policy_inputs

        task = self.network.config.task
        names = ("achieved_c2w", "clip_index", *TASK_ENTRIES[task])
        if missing := [name for name in names if name not in info]:
            raise ValueError(f"info: expected {missing}, an entry of the task {task}, got none; fly that task")
        arrays = {name: np.atleast_1d(np.asarray(info[name])) for name in names}
        seen = TensorDict({name: torch.from_numpy(array)[None] for name, array in arrays.items()}, batch_size=[1])
        seen["pixels"] = torch.from_numpy(observation[-1:])[None]
        with torch.inference_mode():
            mean, _ = self.network(*policy_inputs(seen, self.network.config))
        action: np.ndarray = np.tanh(mean[0].numpy()) * self.high
        return action.astype(np.float32)


def agent_folder(source: str | Path) -> Path:
    """Returns the folder of a shipped agent, by its task's name, or the folder itself.

    Raises:
        FileNotFoundError: The folder holds no agent.
    """
    shipped = Path(str(files("agents").joinpath("pretrained", str(source))))
    folder = shipped if (shipped / _SETTINGS).is_file() else Path(source)
    if not (folder / _SETTINGS).is_file():
        raise FileNotFoundError(f"{folder}: expected a folder with {_SETTINGS}; python -m agents.train_ppo makes one")
    return folder


def save_actor(folder: Path, network: "ActorNetwork") -> None:
    """Writes weights (half precision: 80 kB) and settings, each whole or not at all."""
    from cc2env.files import save_tensors, write_text

    save_tensors(folder / _WEIGHTS, {name: value.half() for name, value in network.state_dict().items()})
    write_text(folder / _SETTINGS, json.dumps(dataclasses.asdict(network.config), indent=1) + "\n")


def load_actor(folder: Path) -> "ActorNetwork":
    """Returns the network that `save_actor` wrote, in single precision.

    Raises:
        ValueError: The files do not fit together.
    """
    from agents.ppo_network import ActorNetwork
    from cc2env.files import load_tensors

    try:
        config = NetworkConfig(**json.loads((folder / _SETTINGS).read_text()))
        if config.task not in TASK_ENTRIES:
            raise ValueError(f"unknown task {config.task!r}")
        network = ActorNetwork(config)
        network.load_state_dict({name: value.float() for name, value in load_tensors(folder / _WEIGHTS)[0].items()})
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise ValueError(f"{folder}: expected an agent's weights and settings, got {error}; train it again") from error
    return network.eval()
