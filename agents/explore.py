"""`python -m agents.explore`: an agent flies a tour of a generated scene and leaves a folder with its film."""

import dataclasses
import itertools
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cc2env.options import EnvOptions
from configs.command_line import hydra_command

if TYPE_CHECKING:
    from agents.follow import FollowPolicy
    from agents.random import RandomPolicy
    from agents.scripted import ScriptedPolicy
    from cc2env.geometry import CameraTrajectory

_MOST_CLIPS = 200  # without num_clips; a longer path usually means a wrong unit
_NO_LIMIT = 10**9  # a trajectory may be longer than the registered episode


@dataclass(kw_only=True)
class AgentConfig:
    """`kind` is `scripted` (`script`, `smooth`) or `random` (`strength`, `smoothness`)."""

    kind: str = "scripted"
    script: str = "tour"
    smooth: bool = True
    strength: float = 0.3
    smoothness: float = 0.8


@dataclass(kw_only=True)
class ExploreConfig:
    """`python -m agents.explore`; see `--help`."""

    world: str = "small"
    trajectory: str | None = None
    fps: float | None = None
    stride: int = 1
    scale: float = 1.0
    image: str | None = None
    prompt: str | None = None
    seed: int = 0
    num_clips: int | None = None
    out: str | None = None
    progress: bool = True
    env: EnvOptions = field(default_factory=EnvOptions)
    agent: AgentConfig = field(default_factory=AgentConfig)


def explore(config: ExploreConfig) -> Path:
    """Flies one episode and returns the folder with its outputs.

    Raises:
        ValueError: A setting, the picture or the trajectory cannot be used.
        FileNotFoundError: The world's weights are missing.
    """
    from cc2env.files import lock_folder

    if config.out is None:
        return _explore(config)
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise ValueError(f"out: expected a folder, got {config.out}, which is none; choose another name")
    with lock_folder(config.out):
        return _explore(config)


def _explore(config: ExploreConfig) -> Path:
    import gymnasium as gym

    import cc2env
    from agents.outputs import write_outputs
    from agents.rollout import rollout

    timed = _read_trajectory(config)
    print(f"world {config.world}: loading", flush=True)
    env: Any = gym.make(
        cc2env.ENV_ID, max_episode_steps=_NO_LIMIT, world=config.world, **dataclasses.asdict(config.env)
    )
    fps = float(env.get_wrapper_attr("fps"))
    seconds_per_pose = env.observation_space.shape[0] / env.action_space.shape[0] / fps
    trajectory = None if timed is None else _in_time(*timed, seconds_per_pose)
    policy, default_clips = _build_policy(config, env.action_space, trajectory)
    num_clips = default_clips if config.num_clips is None else config.num_clips
    options = {key: value for key in ("prompt", "image") if (value := getattr(config, key)) is not None}
    episode = rollout(env, policy, num_clips, seed=config.seed, options=options, show_progress=config.progress)
    labels = [f"clip {index + 1}: {_move_of(policy, index)}" for index in range(len(episode.clips))]
    env.close()
    folder = _new_folder() if config.out is None else Path(config.out)
    write_outputs(folder, episode, fps, labels, settings=dataclasses.asdict(config))
    if episode.prompt:
        print(f"prompt: {episode.prompt}")
    print(
        f"{len(episode.frames)} frames, {len(episode.frames) / fps:.1f} s of film, "
        f"generated at {episode.frames_per_second:.1f} frames per second"
    )
    print(f"written: {folder}")
    return folder


def _new_folder() -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("runs") / "explore" / stamp
    for count in itertools.count(2):  # two may start in one second, even in two processes
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder = folder.with_name(f"{stamp}_{count}")
        else:
            break
    return folder


def _read_trajectory(config: ExploreConfig) -> "tuple[CameraTrajectory, Any] | None":
    """Returns the user's path and its rows' times in seconds, or None if each row is one pose."""
    if config.trajectory is None:
        for name, value, default in (
            ("stride", config.stride, 1),
            ("scale", config.scale, 1),
            ("fps", config.fps, None),
        ):
            if value != default:
                raise ValueError(f"{name}: expected {default} without a trajectory, got {value}; give trajectory=FILE")
        return None
    from cc2env.geometry import read_timed_trajectory, read_trajectory

    if config.fps is not None and config.stride != 1:
        raise ValueError(f"stride: expected 1 beside fps, got {config.stride}; leave one of them out")
    if config.stride != 1:
        return read_trajectory(config.trajectory), None
    return read_timed_trajectory(config.trajectory, fps=config.fps)


def _in_time(trajectory: "CameraTrajectory", seconds: Any, seconds_per_pose: float) -> "CameraTrajectory":
    """Returns the path with a row for each pose of the world."""
    if seconds is None:
        return trajectory
    poses = trajectory.in_time(seconds, seconds_per_pose)
    print(
        f"trajectory: {len(trajectory)} rows in {float(seconds[-1] - seconds[0]):.2f} s, by their times {len(poses)} "
        f"poses, {seconds_per_pose:.2f} s apart"
    )
    return poses


def _build_policy(
    config: ExploreConfig, action_space: Any, trajectory: "CameraTrajectory | None"
) -> "tuple[FollowPolicy | RandomPolicy | ScriptedPolicy, int]":
    """Returns the agent and its default number of clips."""
    from agents.follow import FollowPolicy
    from agents.random import RandomPolicy
    from agents.scripted import ScriptedPolicy

    agent = config.agent
    if trajectory is not None:
        follow = FollowPolicy(action_space, trajectory, config.stride, config.scale)
        print(f"trajectory: {len(follow.trajectory)} poses, a path of {follow.trajectory.path_length():.2f} m")
        if follow.pieces > 1:
            print(
                f"trajectory: too fast for the action space, resampled to {follow.pieces} times as many poses, so "
                f"it is flown {follow.pieces} times as slowly"
            )
        if config.num_clips is None and follow.num_clips > _MOST_CLIPS:
            raise ValueError(
                f"trajectory: expected a path of at most {_MOST_CLIPS} clips, got {follow.num_clips}; if its unit is "
                "not the metre, give scale=METRES_PER_UNIT, or give num_clips to fly a part of it or all"
            )
        return follow, follow.num_clips
    match agent.kind:
        case "scripted":
            scripted = ScriptedPolicy(action_space, agent.script, agent.smooth)
            return scripted, len(scripted)
        case "random":
            return RandomPolicy(action_space, config.seed, agent.strength, agent.smoothness), 8
        case _:
            raise ValueError(f"agent.kind: expected scripted or random, got {agent.kind!r}; see --help")


def _move_of(policy: "FollowPolicy | RandomPolicy | ScriptedPolicy", clip_index: int) -> str:
    from agents.scripted import ScriptedPolicy

    if isinstance(policy, ScriptedPolicy):
        return policy.move_of(clip_index).replace("_", " ")
    return type(policy).__name__.removesuffix("Policy").lower()


main = hydra_command("configs", "explore", ExploreConfig, explore, "stopped")


if __name__ == "__main__":
    main()
