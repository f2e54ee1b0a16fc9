"""One iteration of PPO: fly whole episodes side by side, estimate advantages, improve. It is a function of
(settings, iteration, state), so that a stopped run resumes bit for bit."""

import time
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.envs import Compose, ExcludeTransform, RewardSum, TransformedEnv
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from agents.ppo_network import ActorNetwork, PolicyInputs, build_actor, build_critic
from agents.ppo_settings import NetworkConfig, TrainPPOConfig
from cc2env import TASK_EPISODE_STEPS
from cc2env.files import load_training_state, save_training_state
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv

# large, and read by no network: not kept in the batch
_UNREAD = ("pixels", "goal_image", "c2w", "achieved_c2w", "intrinsics", "reference_c2w", "goal_c2w")


class Learner:
    """Actor, critic and optimiser of a run, and the episodes they learn from.

    Attributes:
        iteration: Updates so far.
        actor_network: The part that an agent needs.
    """

    def __init__(self, config: TrainPPOConfig, world: Any) -> None:
        self.config, self.iteration = config, 0
        steps = config.max_episode_steps
        self.num_steps = TASK_EPISODE_STEPS[config.task] if steps is None else steps
        self.env = CameraCtrlWorldTorchRLEnv(config.num_envs, world, task=config.task, max_episode_steps=self.num_steps)
        high = self.env.action_spec.space.high[0]
        network = NetworkConfig(task=config.task, poses_per_clip=len(high))
        torch.manual_seed(config.seed)
        self.actor_network = ActorNetwork(network)
        self.actor, self.critic = build_actor(self.actor_network, high), build_critic(network)
        self.loss = ClipPPOLoss(
            self.actor,
            self.critic,
            clip_epsilon=config.clip,
            entropy_bonus=config.entropy_coef > 0,
            entropy_coeff=config.entropy_coef,
            critic_coeff=0.5,
            normalize_advantage=True,
        )
        self.advantage = GAE(gamma=config.gamma, lmbda=config.gae_lambda, value_network=self.critic)
        self.optimizer = Adam(self.loss.parameters(), lr=config.learning_rate, eps=1e-5)
        self._flights = self._collector(network)

    def iterate(self) -> dict[str, float]:
        """Flies and improves once; returns what to write into the curve."""
        started = time.perf_counter()
        self._seed(self.iteration)
        batch = next(iter(self._flights))
        flown = time.perf_counter()
        record = _summary(batch)
        for group in self.optimizer.param_groups:  # falls to a tenth: the last updates settle
            group["lr"] = self.config.learning_rate * (1 - 0.9 * self.iteration / self.config.num_iterations)
        losses = self._improve(batch)
        self.iteration += 1
        seconds = {"fly_seconds": flown - started, "learn_seconds": time.perf_counter() - flown}
        return record | losses | seconds

    def save(self, path: Path) -> None:
        """Writes weights, optimiser and iteration as one safetensors file, whole or not at all."""
        state = {"loss": self.loss.state_dict(), "optimizer": self.optimizer.state_dict(), "iteration": self.iteration}
        save_training_state(path, state)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            ValueError: The file is damaged, or of a network of another shape.
        """
        state = load_training_state(path)
        try:
            self.loss.load_state_dict(state["loss"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.iteration = int(state["iteration"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{path}: expected the state of this run's networks, got another; choose a new out="
            ) from error

    def _collector(self, network: NetworkConfig) -> Collector:
        unread = [name for name in _UNREAD if name in self.env.observation_spec]
        env = TransformedEnv(self.env, Compose(PolicyInputs(network), ExcludeTransform(*unread), RewardSum()))
        frames = self.config.num_envs * self.num_steps
        return Collector(
            env,
            self.actor,
            frames_per_batch=frames,
            total_frames=-1,
            reset_at_each_iter=True,
            auto_register_policy_transforms=False,
        )

    def _seed(self, iteration: int) -> None:
        """Gives every iteration its own episodes and noise, also in a resumed run."""
        base = self.config.seed * 1_000_003 + iteration * self.config.num_envs
        self.env.set_seeds([base + row for row in range(self.config.num_envs)])
        torch.manual_seed(base)

    def _improve(self, batch: TensorDictBase) -> dict[str, float]:
        config = self.config
        batch["next", "reward"] = batch["next", "reward"] * config.reward_scale
        with torch.no_grad():
            self.advantage(batch)
        rows, sums = batch.reshape(-1), dict.fromkeys(("loss_objective", "loss_critic", "kl_approx"), 0.0)
        count = 0
        for _ in range(config.num_epochs):
            for chosen in torch.randperm(len(rows)).split(config.minibatch):
                if len(chosen) < 2:
                    continue  # nothing to normalise an advantage by
                losses = self.loss(rows[chosen])
                total = sum(value for name, value in losses.items() if name.startswith("loss_"))
                assert isinstance(total, Tensor)
                self.optimizer.zero_grad()
                total.backward()
                nn.utils.clip_grad_norm_(self.loss.parameters(), config.max_grad_norm)
                self.optimizer.step()
                count += 1
                for name in sums:
                    sums[name] += float(losses[name].detach())
        return {name: value / max(count, 1) for name, value in sums.items()}


def _summary(batch: TensorDictBase) -> dict[str, float]:
    """Mean return of the episodes that ended in this batch, and the share that succeeded, if the task knows success."""
    done = batch["next", "done"]
    record = {
        "frames": float(batch.numel()),
        "episodes": float(done.sum()),
        "return": float(batch["next", "episode_reward"][done].mean()),
    }
    if "is_success" in batch["next"]:
        record["success"] = float(batch["next", "is_success"][done].float().mean())
    return record
