"""Makes a world's films for the paper's metrics: flown through held-out scenes, written beside the true films."""

import dataclasses
import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig, save_array
from model.data.video_io import write_video
from model.evaluation.camera_accuracy import measure_camera, searched
from model.evaluation.oracle import OracleScenes, fly, render_oracle_scenes
from model.fingerprint import fingerprint
from model.geometry.trajectory_io import read_trajectory
from model.whole_file import whole_folder, write_text
from model.world.protocol import WorldModel

_FLOWN = "flown.json"  # what was flown, and what the search found


def fly_films(
    world: WorldModel,
    clips: ClipSetConfig,
    folder: Path,
    key: str,
    *,
    trajectories: str | None = None,
    captions: bool = False,
    batch_size: int = 16,
    search: bool = False,
) -> dict[str, float | None]:
    """Writes `films/`, `reference/` and `poses/` of held-out scenes; nothing is flown again under the same key.

    Args:
        world: Opens every scene with its true first frame.
        clips: Which scenes, and how they are rendered.
        folder: The output folder.
        key: Identifies the world and the settings.
        trajectories: Folder of paths (`.npy` or `.txt`, a pose for each latent) that replace the scenes' own.
        captions: The world also gets each scene's caption.
        batch_size: Scenes flown at once.
        search: Also find the camera by the oracle's search.

    Returns:
        What the search found: `search_rot_err_deg`, `search_trans_err_m`, `search_solved_share`; empty without it.

    Raises:
        ValueError: A path is malformed or too short.
    """
    key = fingerprint(key, repr((clips, trajectories, captions, search)))
    record = folder / _FLOWN
    if record.is_file() and (kept := json.loads(record.read_text()))["key"] == key:
        return dict(kept["found"])
    scenes = dataclasses.replace(render_oracle_scenes(clips, clips.num_clips), with_caption=captions)
    if trajectories is not None:
        scenes = _along(scenes, _given_paths(Path(trajectories), clips))
    films = fly(world, scenes, scenes.poses, batch_size, "flying")
    paths = scenes.frame_poses()
    found = searched(measure_camera(scenes.truths(), films, paths)) if search else {}
    with whole_folder(folder) as partial:  # replaces films of other settings
        for index, (seed, kind) in enumerate(zip(scenes.seeds, scenes.kinds, strict=True)):
            name = f"scene_{seed}_{kind}"
            write_video(partial / "films" / f"{name}.mp4", films[index], clips.fps)
            write_video(partial / "reference" / f"{name}.mp4", scenes.frames[index], clips.fps)
            save_array(partial / "poses" / f"{name}.npy", paths[index].float().numpy())
        write_text(partial / _FLOWN, json.dumps({"key": key, "found": found}))
    return found


def _given_paths(folder: Path, clips: ClipSetConfig) -> Float[Tensor, "n p 4 4"]:
    """Returns the folder's paths in order, each from the identity; they repeat if there are more scenes than paths.

    Raises:
        FileNotFoundError: The folder holds no paths.
        ValueError: A path is malformed or too short.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".npy", ".txt"))
    if not files:
        raise FileNotFoundError(
            f"trajectories: expected NAME.npy or NAME.txt, found none in {folder}; check the folder"
        )
    paths = []
    for file in files:
        path = read_trajectory(file).rebase().c2w
        if len(path) < clips.num_latents:
            raise ValueError(
                f"{file}: expected at least {clips.num_latents} poses, one for each latent, got {len(path)}; "
                "fly fewer clips"
            )
        paths.append(path[: clips.num_latents])
    return torch.stack([paths[index % len(paths)] for index in range(clips.num_clips)])


def _along(scenes: OracleScenes, poses: Float[Tensor, "n p 4 4"]) -> OracleScenes:
    """Returns the same scenes rendered along other paths."""
    moved = dataclasses.replace(scenes, poses=poses, kinds=["given"] * len(poses))
    times = torch.arange((poses.shape[1] - 1) * FRAMES_PER_LATENT + 1) / scenes.fps
    pairs = zip(moved.truths(), moved.frame_poses(), strict=True)
    return dataclasses.replace(moved, frames=torch.stack([truth.clip(path, times).frames for truth, path in pairs]))
