"""The settings of a session, and its environment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym

import cc2env

CHOICES = {
    "sampler": ("default", "fast", "quality"),
    "task": ("none", *cc2env.TASK_IDS),
    "collision": ("none", "stop"),
}
REAL_TIME_SAMPLERS = {"small": "fast"}  # with others, two cores hardly make its twelve frames a second
_NO_LIMIT = 10**9  # a wrapper's count of steps does not go back with a snapshot
_LONGEST_PROMPT = 500


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one session; `image`: the file of the first frame, or None; `device`: where the world computes."""

    world: str = "tiny"
    sampler: str = "default"
    task: str = "none"
    collision: str = "none"
    seed: int = 0
    prompt: str | None = None
    image: str | None = None
    device: str = "cpu"

    def as_json(self) -> dict[str, Any]:
        """Returns the settings by name."""
        return asdict(self)

    def has_env_of(self, other: "Settings") -> bool:
        """Returns whether both are flown in the same environment."""
        return all(getattr(self, name) == getattr(other, name) for name in ("world", "device", *CHOICES))

    def options(self) -> dict[str, Any]:
        """Returns the options of `reset`."""
        return {name: value for name in ("prompt", "image") if (value := getattr(self, name)) is not None}

    def make_env(self) -> gym.Env[Any, Any]:
        """Returns the environment.

        Raises:
            ValueError: The world has no such sampler, or no such task is known.
            FileNotFoundError: There is no such world.
        """
        env_id = cc2env.ENV_ID if self.task == "none" else cc2env.TASK_IDS[self.task]
        # a world without a choice of samplers has only its default
        options: dict[str, Any] = {} if self.sampler == "default" else {"sampler": self.sampler}
        if self.world != "synthetic":  # which is rendered, always on the CPU
            options["device"] = self.device
        return gym.make(env_id, max_episode_steps=_NO_LIMIT, world=self.world, collision=self.collision, **options)


def read_settings(
    message: dict[str, Any], worlds: Sequence[str], image: str | None, device: str = Settings.device
) -> Settings:
    """Returns the settings that a page asks for, each checked: `worlds` and `device` are those that the command named.

    Raises:
        ValueError: One of them is unknown or of another type.
    """
    defaults = Settings().as_json().items()
    given = {name: message.get(name, default) for name, default in defaults if name not in ("image", "device")}
    for name, known in {"world": worlds, **CHOICES}.items():
        if given[name] not in known:
            raise ValueError(f"{name}: expected one of {list(known)}, got {given[name]!r:.80}; choose one")
    seed, prompt = given["seed"], given["prompt"]
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise ValueError(f"seed: expected an integer from 0 to 2147483647, got {seed!r:.80}")
    if prompt is not None and not (isinstance(prompt, str) and len(prompt) <= _LONGEST_PROMPT):
        raise ValueError(f"prompt: expected a text of at most {_LONGEST_PROMPT} characters, got {prompt!r:.40}...")
    return Settings(**{**given, "prompt": prompt or None}, image=image, device=device)
