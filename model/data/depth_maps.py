"""The renderer's depth for every latent frame of a clip set, kept beside the clips."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT, ClipSet
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import sample_scene
from model.data.synthetic.trajectories import sample_trajectory
from model.whole_file import whole_file


def depth_maps(
    clips: ClipSet, num_clips: int, height: int, width: int, max_depth: float
) -> Float[Tensor, "n f {height} {width}"]:
    """Z-depth in metres, as float16, of the first clips at the poses of their latent frames; rendered once.

    Args:
        clips: The set; scenes and paths follow from its seeds.
        num_clips: How many of them.
        height: Rows of a map; it may be coarser than the frames.
        width: Columns.
        max_depth: What is farther, the sky too, counts as this far.

    Raises:
        ValueError: The set has fewer clips.
    """
    if not 0 < num_clips <= len(clips):
        raise ValueError(f"num_clips: expected 1 to {len(clips)}, what the set holds, got {num_clips}")
    path = clips.folder / f"depth_{height}x{width}_{max_depth:g}m_{num_clips}.npy"
    if not path.exists():
        maps = [
            clip_depth(clips, seed, height, width, max_depth)
            for seed in tqdm(clips.seeds[:num_clips], desc="rendering depth", unit="clip")
        ]
        with whole_file(path) as partial:
            np.save(partial, torch.stack(maps).half().numpy())
    return torch.from_numpy(np.load(path))


def clip_depth(
    clips: ClipSet, seed: int, height: int, width: int, max_depth: float
) -> Float[Tensor, "f {height} {width}"]:
    """Z-depth in metres of one clip's latent frames."""
    config = clips.config
    scene = sample_scene(seed, style=config.style)
    path, _ = sample_trajectory(scene, seed, config.num_latents)
    times = torch.arange(config.num_latents) * (FRAMES_PER_LATENT / config.fps)
    return render(scene, path.c2w, config.intrinsics(), times, height, width, 1).depth.clamp(max=max_depth)
