"""`python -m agents.gallery`: a small film of every named move and of every task, and a page that shows them."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from agents.rollout import Policy, rollout
from agents.scripted import MOVES, ScriptedPolicy
from cc2env import ENV_ID, TASK_IDS
from cc2env.files import lock_folder, whole_file, write_text
from cc2env.geometry import se3
from configs.command_line import hydra_command


@dataclass(kw_only=True)
class GalleryConfig:
    """What to film.

    Attributes:
        world: As in `gymnasium.make`.
        out: Folder of the films and the page.
        image: First frame of every film; by default the world chooses.
        prompt: Prompt of every film; by default the world chooses.
        seed: Seed of every film.
        task_clips: Most clips of a task's film.
        every: The film keeps one of this many frames.
        colours: Colours of a film; fewer make a smaller file.
        moves: Moves to film; by default all.
        tasks: Tasks to film; by default all.
    """

    world: str = "tiny"
    out: str = "runs/gallery"
    image: str | None = None
    prompt: str | None = None
    seed: int = 3
    task_clips: int = 4
    every: int = 2
    colours: int = 64
    moves: list[str] | None = None
    tasks: list[str] | None = None


def make_gallery(config: GalleryConfig) -> list[Path]:
    """Writes the films and `README.md` and returns their paths.

    Raises:
        ValueError: There is no such move or task, or an argument of the environment is wrong.
    """
    moves, tasks = _chosen("moves", config.moves, list(MOVES)), _chosen("tasks", config.tasks, list(TASK_IDS))
    if config.every < 1 or config.task_clips < 1 or not 2 <= config.colours <= 256:
        raise ValueError(
            "every, task_clips, colours: expected at least 1, at least 1 and 2 to 256, "
            f"got {config.every}, {config.task_clips} and {config.colours}"
        )
    out, films = Path(config.out), []
    for name in tqdm([*moves, *tasks], desc="filming", unit="film"):
        env_id, num_clips = (ENV_ID, 1) if name in moves else (TASK_IDS[name], config.task_clips)
        frames, fps = film(config, env_id, name, num_clips)
        films.append(out / f"{name}.gif")
        write_gif(films[-1], frames[:: config.every], fps / config.every, config.colours)
    page = out / "README.md"
    write_text(page, index(moves, tasks, config))
    return [*films, page]


def film(config: GalleryConfig, env_id: str, name: str, num_clips: int) -> tuple[np.ndarray, float]:
    """Returns the frames of an episode, with the task's goal picture beside them if any, and frames per second."""
    env: gym.Env[np.ndarray, Any] = gym.make(env_id, world=config.world)
    options = {key: value for key in ("prompt", "image") if (value := getattr(config, key)) is not None}
    policy = policy_of(name, env.action_space)
    episode = rollout(env, policy, num_clips, seed=config.seed, options=options, show_progress=False)
    frames, fps = episode.frames, float(env.get_wrapper_attr("fps"))
    env.close()
    if "goal_image" in episode.last_info:
        frames = np.concatenate([frames, np.broadcast_to(episode.last_info["goal_image"], frames.shape)], axis=2)
    return frames, fps


def policy_of(name: str, action_space: Any) -> Policy:
    """Returns the policy that flies a move or a task."""
    if name in ("GoalView", "FollowPath"):
        return PoseFollower(action_space)
    scripts = {"Explore": "walk", "LoopClosure": "there_and_back", "HoldStill": "still"}
    return ScriptedPolicy(action_space, scripts.get(name, name), smooth=False)


class PoseFollower:
    """Flies straight to the goal's pose of `GoalView`, or through the reference poses of `FollowPath`."""

    def __init__(self, action_space: Any) -> None:
        self.high: np.ndarray = action_space.high

    def act(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Returns the twists of the next clip."""
        here = info["achieved_c2w"][-1]
        if "goal_c2w" in info:
            return towards(here, info["goal_c2w"], self.high)
        return along(here, info["reference_c2w"], self.high)


def towards(here: np.ndarray, goal: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns twists straight to a pose, scaled down to the bounds if it is far."""
    twist = _twists(here[None], goal[None])[0] / len(high)
    excess = max(1.0, float((np.abs(twist) / high[0]).max()))
    return np.tile(twist / excess, (len(high), 1)).clip(-high, high).astype(np.float32)


def along(here: np.ndarray, path: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the twists through poses, clipped to the bounds."""
    return _twists(np.concatenate([here[None], path[:-1]]), path).clip(-high, high).astype(np.float32)


def write_gif(path: Path, frames: np.ndarray, fps: float, colours: int) -> None:
    """Writes a film with one palette for all its frames, so that it is small and does not flicker."""
    strip = Image.fromarray(np.concatenate(frames))
    palette = strip.quantize(colours, dither=Image.Dither.NONE)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with whole_file(path) as partial:
        pictures[0].save(
            partial, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=True
        )


def index(moves: list[str], tasks: list[str], config: GalleryConfig) -> str:
    """Returns the page, in Markdown."""
    given = {name: value for name, value in vars(config).items() if value != getattr(GalleryConfig(), name)}
    values = {name: f"[{','.join(v)}]" if isinstance(v, list) else v for name, v in given.items()}
    command = " ".join(["python -m agents.gallery", *(shlex.quote(f"{n}={value}") for n, value in values.items())])
    image = "" if config.image is None else Path(os.path.relpath(config.image, config.out)).as_posix()
    lines = [
        "# Films of every move and task",
        "",
        f"World `{config.world}`, seed {config.seed}"
        + (f", first frame [{config.image}]({image})" if config.image else "")
        + (f", prompt “{config.prompt}”" if config.prompt else "")
        + f". Made by `{command}`.",
        "",
    ]
    for title, names, columns in (("Moves, one clip each", moves, 5), ("Tasks", tasks, 3)):
        lines += [f"## {title}", "", "| " * columns + "|", "| --- " * columns + "|"]
        for first in range(0, len(names), columns):
            row = names[first : first + columns]
            cells = [f'<img src="{name}.gif" height="96"><br>{name.replace("_", " ")}' for name in row]
            lines.append(f"| {' | '.join(cells + [''] * (columns - len(cells)))} |")
        lines.append("")
    if "GoalView" in tasks:
        lines.append("`GoalView` shows, on the right, the picture whose pose is to be reached.")
    return "\n".join(lines).rstrip() + "\n"


def _twists(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    poses = (torch.from_numpy(np.asarray(each, np.float64)) for each in (start, end))
    twists: np.ndarray = se3.log(se3.relative(*poses)).numpy()
    return twists


def _chosen(name: str, wanted: list[str] | None, known: list[str]) -> list[str]:
    if unknown := sorted(set(wanted or []) - set(known)):
        raise ValueError(f"{name}: expected some of {known}, got {unknown}; leave them out")
    return known if wanted is None else list(wanted)


def run(config: GalleryConfig) -> None:
    """Films the gallery and says what was written."""
    with lock_folder(config.out):
        written = make_gallery(config)
    size = sum(path.stat().st_size for path in written)
    print(f"written: {config.out} ({len(written)} files, {size / 1e6:.2f} MB)")


main = hydra_command("configs", "gallery", GalleryConfig, run, "stopped")


if __name__ == "__main__":
    main()
