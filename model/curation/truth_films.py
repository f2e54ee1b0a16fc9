"""Films of the synthetic world as files, with their ground truth: poses, depth, moving pixels."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT
from model.data.synthetic.captions import caption
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import sample_scene
from model.data.synthetic.trajectories import HORIZONTAL_FOV, sample_trajectory
from model.data.video_io import write_video
from model.geometry.camera import intrinsics_from_fov
from model.tensor_file import load_tensors, save_tensors


@dataclass(kw_only=True)
class TruthFilmsConfig:
    """What is rendered; seeds start at 0, like users' seeds (training's start at 1,000,000)."""

    num_films: int = 8
    first_seed: int = 0
    num_latents: int = 9
    height: int = 240
    width: int = 320
    fps: float = 12.0

    @property
    def num_frames(self) -> int:
        return (self.num_latents - 1) * FRAMES_PER_LATENT + 1


@dataclass(frozen=True, eq=False)
class FilmTruth:
    """The truth of a film: frames' poses, lens and rate, metric z-depth (infinite: sky), pixels of moving objects."""

    c2w: Float[Tensor, "f 4 4"]
    intrinsics: Float[Tensor, "4"]
    fps: float
    depth: Float[Tensor, "f h w"]
    moving: Bool[Tensor, "f h w"]

    @property
    def path_length(self) -> float:
        """Length of the camera's path in metres."""
        return float(self.c2w[:, :3, 3].diff(dim=0).norm(dim=-1).sum())


def render_truth_films(folder: str | Path, config: TruthFilmsConfig) -> dict[str, FilmTruth]:
    """Returns the truth by the films' names; writes missing files `films/NAME.mp4`, `films/NAME.txt` and `truth/`."""
    folder = Path(folder)
    truths = {}
    seeds = range(config.first_seed, config.first_seed + config.num_films)
    for seed in tqdm(seeds, desc="rendering films", unit="film"):
        scene = sample_scene(seed, style="textured")
        path, kind = sample_trajectory(scene, seed, config.num_latents)
        name = f"scene_{seed:03d}_{kind}"
        file = folder / "truth" / f"{name}.safetensors"
        if not file.exists():
            lens = intrinsics_from_fov(HORIZONTAL_FOV, config.height, config.width)
            c2w = path.upsample(FRAMES_PER_LATENT).c2w
            times = torch.arange(config.num_frames) / config.fps
            clip = render(scene, c2w, lens, times, config.height, config.width)
            write_video(folder / "films" / f"{name}.mp4", clip.frames, config.fps)
            (folder / "films" / f"{name}.txt").write_text(caption(scene))
            arrays = {"c2w": c2w, "intrinsics": lens, "fps": torch.tensor(config.fps)}
            arrays |= {"depth": clip.depth.half(), "moving": clip.moving_mask}
            save_tensors(file, arrays)
        truths[name] = load_truth(folder, name)
    return truths


def load_truth(folder: Path, name: str) -> FilmTruth:
    """Returns the truth that `render_truth_films` wrote for a film."""
    arrays, _ = load_tensors(folder / "truth" / f"{name}.safetensors")
    moving = arrays["moving"].bool()
    fps, depth = float(arrays["fps"]), arrays["depth"].float()
    return FilmTruth(arrays["c2w"], arrays["intrinsics"], fps, depth, moving)
