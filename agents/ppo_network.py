"""The observation of a PPO agent and its small networks; the same code in training and in flight.

The agent sees the clip's last frame at a small size, and numbers: the start's pose and the camera's heading, the clip's
index, and the task's entries of `info`, whose poses are relative to the camera. In `GoalView` such an entry is the
goal's pose: the agent knows where to go and learns how.
"""

import torch
from tensordict import TensorDictBase
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import Transform
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator

from agents.ppo_settings import TASK_ENTRIES, NetworkConfig
from cc2env.geometry import se3

_CLIPS_UNIT = 16.0  # brings the clip's index near 1
_INITIAL_SPREAD = 0.2


def num_features(config: NetworkConfig) -> int:
    """Returns the length of the features that `policy_inputs` returns."""
    sizes = {"goal_c2w": 6, "reference_c2w": 6 * config.poses_per_clip, "has_left": 1}
    return 13 + sum(sizes[entry] for entry in TASK_ENTRIES[config.task])


def policy_inputs(seen: TensorDictBase, config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """Returns the agent's observation from the environment's entries (those of TorchRL, or `info` with `pixels`).

    Returns:
        The small picture, uint8 [*b, 3, height, width], and the numbers, float32 [*b, n]; metres and radians.
    """
    frame = seen["pixels"][..., -1, :, :, :].movedim(-1, -3)
    picture = adaptive_avg_pool2d(frame.float().flatten(0, -4), (config.height, config.width)).round()
    here = seen["achieved_c2w"][..., -1, :, :]
    home = se3.log(se3.inverse(here))
    heading = here[..., :3, :2].flatten(-2)
    features = [home, heading, seen["clip_index"].float() / _CLIPS_UNIT]
    for entry in TASK_ENTRIES[config.task]:
        value = seen[entry]
        if entry == "has_left":
            features.append(value.float())
            continue
        poses = value.unsqueeze(-3) if value.ndim == here.ndim else value
        features.append(se3.log(se3.inverse(here).unsqueeze(-3) @ poses).flatten(-2))
    return picture.to(torch.uint8).reshape(*here.shape[:-2], *picture.shape[1:]), torch.cat(features, dim=-1)


class PolicyInputs(Transform):
    """Adds `picture` and `features`, all that the networks read, to the environment's entries."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(in_keys=["pixels"], out_keys=["picture", "features"])
        self.config = config

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        picture, features = policy_inputs(next_tensordict, self.config)
        return next_tensordict.set("picture", picture).set("features", features)

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        batch, config = observation_spec.shape, self.config
        size = (*batch, 3, config.height, config.width)
        observation_spec["picture"] = Bounded(low=0, high=255, shape=size, dtype=torch.uint8)
        observation_spec["features"] = Unbounded((*batch, num_features(config)))
        return observation_spec


class ObservationNetwork(nn.Module):
    """Maps the small picture and the numbers to `num_outputs` numbers; the last layer starts small."""

    def __init__(self, config: NetworkConfig, num_outputs: int, gain: float) -> None:
        super().__init__()
        c = config.channels
        self.picture = nn.Sequential(
            nn.Conv2d(3, c, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * c, 3 * c, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        cells = -(-config.height // 8) * -(-config.width // 8)
        self.from_picture = nn.Linear(3 * c * cells, config.hidden)
        self.from_features = nn.Linear(num_features(config), config.hidden)
        self.join = nn.Linear(2 * config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, num_outputs)
        nn.init.orthogonal_(self.out.weight, gain)
        nn.init.zeros_(self.out.bias)

    def forward(self, picture: Tensor, features: Tensor) -> Tensor:
        """Returns [*b, num_outputs] for uint8 [*b, 3, h, w] and float32 [*b, n]."""
        batch = picture.shape[:-3]
        seen = self.picture(picture.reshape(-1, *picture.shape[-3:]).float() / 127.5 - 1).reshape(*batch, -1)
        both = torch.cat([torch.tanh(self.from_picture(seen)), torch.tanh(self.from_features(features))], dim=-1)
        out: Tensor = self.out(torch.tanh(self.join(both)))
        return out


class ActorNetwork(nn.Module):
    """Maps (picture, features) to mean and spread of the action, each [*b, p, 6], before the hyperbolic tangent."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.sight = ObservationNetwork(config, config.poses_per_clip * 12, gain=0.01)
        self.extract = NormalParamExtractor(scale_mapping=f"biased_softplus_{_INITIAL_SPREAD}", scale_lb=1e-2)

    def forward(self, picture: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and spread."""
        mean, spread = self.extract(self.sight(picture, features).unflatten(-1, (self.config.poses_per_clip, 12)))
        return mean, spread


def build_actor(network: ActorNetwork, high: Tensor) -> ProbabilisticActor:
    """Returns the policy: a normal distribution squashed into the bounds [-high, high] of the actions."""
    module = TensorDictModule(network, in_keys=["picture", "features"], out_keys=["loc", "scale"])
    return ProbabilisticActor(
        module,
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": -high, "high": high, "event_dims": 2},
        return_log_prob=True,
    )


def build_critic(config: NetworkConfig) -> ValueOperator:
    """Returns the network that estimates the rest of an episode's return."""
    return ValueOperator(ObservationNetwork(config, 1, gain=1.0), in_keys=["picture", "features"])
