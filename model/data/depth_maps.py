"""The renderer's depth for every latent frame of a clip set, stored beside the clips."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT, ClipSet, save_array
from model.data.synthetic.renderer import render
from model.data.synthetic.scene import sample_scene
from model.data.synthetic.trajectories import sample_trajectory


def depth_maps(
    clips: ClipSet, num_clips: int, height: int, width: int, max_depth: float
) -> Float[Tensor, "n f {height} {width}"]:
    """Z-depth in metres, as float16, of the first `num_clips` clips at the poses of their latent frames; rendered once.

    Maps may be coarser than the frames. Depth beyond `max_depth`, the sky's too, is set to `max_depth`.

    Raises:
        ValueError: The set has fewer clips.
    """
    if not 0 < num_clips <= len(clips):
        raise ValueError(f"num_clips: expected 1 to {len(clips)}, what the set holds, got {num_clips}")
    path = clips.folder / f"depth_{height}x{width}_{max_depth:g}m_{num_clips}.npy"
    if not path.exists():
        config, maps = clips.config, []
        times = torch.arange(config.num_latents) * (FRAMES_PER_LATENT / config.fps)
        for seed in tqdm(clips.seeds[:num_clips], desc="rendering depth", unit="clip"):
            scene = sample_scene(seed, style=config.style)
            c2w = sample_trajectory(scene, seed, config.num_latents)[0].c2w
            depth = render(scene, c2w, config.intrinsics(), times, height, width, supersample=1).depth
            maps.append(depth.clamp(max=max_depth).half().numpy())
        save_array(path, np.stack(maps))
    return torch.from_numpy(np.load(path))
