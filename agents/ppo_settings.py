"""Settings of PPO: those of a training run, those of the networks, and what a network reads for each task."""

from dataclasses import dataclass

# entries of `info`, besides the camera's own pose: poses become twists from the camera, flags 0 or 1
TASK_ENTRIES: dict[str, tuple[str, ...]] = {
    "Explore": (),
    "GoalView": ("goal_c2w",),
    "FollowPath": ("reference_c2w",),
    "LoopClosure": ("has_left",),
    "HoldStill": (),
}


@dataclass(kw_only=True)
class NetworkConfig:
    """The shape of actor and critic.

    Attributes:
        task: A key of `TASK_ENTRIES`: the entries of `info` to read.
        poses_per_clip: Latent poses of an action.
        height: Height of the small picture.
        width: Width of the small picture.
        channels: Channels of the first convolution; the others have two and three times as many.
        hidden: Units of the layer that joins picture and numbers.
    """

    task: str = "Explore"
    poses_per_clip: int = 4
    height: int = 24
    width: int = 40
    channels: int = 8
    hidden: int = 64


@dataclass(kw_only=True)
class TrainPPOConfig:
    """`python -m agents.train_ppo`; see `--help`.

    Attributes:
        num_envs: Episodes that are flown side by side, from reset to the end, between two updates.
        max_episode_steps: Clips of an episode; without it, the task's own.
        minibatch: Clips of one update, at least 2: advantages are normalised in it.
        learning_rate: Initial value; it falls to a tenth in `num_iterations`.
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

    def validate(self) -> None:
        """Raises ValueError for a setting out of range."""
        if self.task not in TASK_ENTRIES:
            raise ValueError(f"task: expected one of {list(TASK_ENTRIES)}, got {self.task!r}; choose one")
        for name, least in (("num_iterations", 1), ("num_envs", 1), ("num_epochs", 1), ("minibatch", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {getattr(self, name)}")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ValueError(
                f"max_episode_steps: expected None or an integer of at least 1, got {self.max_episode_steps}; "
                "leave it out for the task's own"
            )
        if self.num_envs == self.max_episode_steps == 1:
            raise ValueError(
                "num_envs, max_episode_steps: expected at least 2 clips for each update, got 1; fly more episodes"
            )
        for name in ("learning_rate", "clip", "max_grad_norm", "reward_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
