"""How easy the look is to learn: what 16 principal components of 4x8x8 patches leave out of held-out clips.

`python -m model.data.synthetic.learnability [num_training] [num_held_out]` prints the table.
"""

import math
import sys

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.synthetic.renderer import render_frames
from model.data.synthetic.scene import Scene, sample_scene
from model.data.synthetic.trajectories import sample_trajectory

NUM_COMPONENTS = 16
HELD_OUT = 500_000  # seeds of held-out scenes start here
_HEIGHT, _WIDTH, _NUM_LATENTS = 48, 80, 9


def sample_clip(seed: int, style: str = "soft") -> tuple[Scene, UInt8[Tensor, "f h w 3"]]:
    """A scene and 33 frames of 48x80 at 12 frames a second along a sampled trajectory."""
    scene = sample_scene(seed, style)
    path = sample_trajectory(scene, seed, _NUM_LATENTS)[0].upsample(4)
    times = torch.arange(len(path)) / 12
    return scene, render_frames(scene, path.c2w, path.intrinsics, times, _HEIGHT, _WIDTH)


def patches(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "n d"]:
    """Patches of 4 frames x 8 x 8 pixels in [0, 1], one a row, without the first frame (its latent is its own)."""
    video = frames[1:].float() / 255
    size, height, width, _ = video.shape
    blocks = video.reshape(size // 4, 4, height // 8, 8, width // 8, 8, 3)
    return blocks.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, 4 * 8 * 8 * 3)


def measure_learnability(num_training: int = 200, num_held_out: int = 40, style: str = "soft") -> dict[str, float]:
    """Held-out PSNR in dB, "all" over all pixels and one figure a theme, of the principal components of other clips."""
    total, products, count = torch.zeros(768), torch.zeros(768, 768), 0
    for seed in tqdm(range(num_training), desc="training clips", leave=False):
        rows = patches(sample_clip(seed, style)[1])
        total, products, count = total + rows.sum(0), products + rows.T @ rows, count + len(rows)
    mean = total / count
    covariance = (products / count - torch.outer(mean, mean)).double()
    basis = torch.linalg.eigh(covariance).eigenvectors[:, -NUM_COMPONENTS:].float()
    errors: dict[str, list[float]] = {"all": []}
    for seed in tqdm(range(HELD_OUT, HELD_OUT + num_held_out), desc="held-out clips", leave=False):
        scene, frames = sample_clip(seed, style)
        rows = patches(frames) - mean
        error = float((rows - rows @ basis @ basis.T).square().mean())
        errors["all"].append(error)
        errors.setdefault(scene.theme.name, []).append(error)
    return {name: -10 * math.log10(sum(values) / len(values)) for name, values in errors.items()}


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [200, 40]
    for theme, decibels in measure_learnability(sizes[0], sizes[1] if len(sizes) > 1 else 40).items():
        print(f"{theme:8s} {decibels:5.1f} dB")
