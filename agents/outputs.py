"""The folder that an exploration writes: film, contact sheet, plan of the path, poses, and all numbers."""

import json
from pathlib import Path
from typing import Any

import torch

from agents.rollout import Episode
from cc2env.files import whole_file, write_text
from cc2env.geometry import CameraTrajectory, write_realestate10k
from cc2env.recording import write_film
from cc2env.rendering import contact_sheet, trajectory_picture

FILM_WIDTH, GIF_WIDTH = 640, 240


def write_outputs(folder: Path, episode: Episode, fps: float, labels: list[str], settings: dict[str, Any]) -> None:
    """Writes tour.mp4, tour.gif, contact_sheet.png, trajectory.png, poses.txt and episode.json into a folder.

    Args:
        folder: Made if missing; files of the same names are replaced, each as a whole.
        episode: The flown episode.
        fps: Frames per second of the film.
        labels: One for each clip.
        settings: Settings of the episode; the first entries of episode.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = episode.frames
    width = frames.shape[2]
    write_film(folder / "tour.mp4", frames, fps, scale=max(1, FILM_WIDTH // width))
    write_film(folder / "tour.gif", frames, fps, scale=max(1, GIF_WIDTH // width))
    seconds_per_pose = len(episode.clips[0]) / len(episode.actions[0]) / fps
    pictures = {
        "contact_sheet.png": contact_sheet(episode.clips, labels),
        "trajectory.png": trajectory_picture(episode.c2w, episode.intrinsics, seconds_per_pose),
    }
    for name, picture in pictures.items():
        with whole_file(folder / name) as partial:
            picture.save(partial)
    # One row for each latent pose, so that `trajectory=poses.txt` flies the same path again.
    intrinsics = torch.from_numpy(episode.intrinsics).expand(len(episode.c2w), 4)
    timestamps = [round(index * seconds_per_pose * 1e6) for index in range(len(episode.c2w))]
    write_realestate10k(
        folder / "poses.txt", CameraTrajectory(torch.from_numpy(episode.c2w), intrinsics), timestamps=timestamps
    )
    write_text(folder / "episode.json", json.dumps(settings | describe(episode, fps, labels), indent=1))


def describe(episode: Episode, fps: float, labels: list[str]) -> dict[str, Any]:
    """Returns the numbers of an episode as plain JSON data; poses are camera-to-world, metres, the start pose first."""
    return {
        "prompt": episode.prompt,
        "prompts": episode.prompts,
        "fps": fps,
        "num_clips": len(episode.clips),
        "num_frames": len(episode.frames),
        "frame_size": list(episode.frames.shape[1:3]),
        "clips": labels,
        "intrinsics": episode.intrinsics.tolist(),
        "actions": [action.tolist() for action in episode.actions],
        "poses": episode.c2w.tolist(),
        "rewards": episode.rewards,
        "timings": {
            "reset_seconds": episode.reset_seconds,
            "step_seconds": episode.step_seconds,
            "frames_per_second": episode.frames_per_second,
            "reset_function_evaluations": episode.reset_function_evaluations,
            "function_evaluations": episode.function_evaluations,
        },
    }
