"""A picture handed from clip to clip: nothing is lost by a lossless VAE; what the shipped ones lose, as printed."""

from itertools import pairwise

import pytest
import torch
from einops import rearrange
from torch import Tensor

from model.data.clips import ClipSetConfig, render_record
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.handover import measure_handovers
from model.world.camera_world import CameraWorld
from model.world.load import load_world

SHOWN = (1, 4, 8, 12)


class Lossless:
    """Four frames side by side in the channels; the first latent holds one frame four times."""

    temporal_stride = 4

    def encode(self, video: Tensor) -> Tensor:
        whole = torch.cat([video[:, :, :1].repeat(1, 1, 3, 1, 1), video], dim=2)
        return rearrange(whole, "b c (f k) h w -> b (k c) f h w", k=4)

    def decode(self, latents: Tensor) -> Tensor:
        return rearrange(latents, "b (k c) f h w -> b c (f k) h w", k=4)[:, :, 3:]


def test_a_lossless_code_loses_nothing() -> None:
    films = torch.randint(0, 256, (2, 9, 8, 8, 3), dtype=torch.uint8)
    for name, entries in measure_handovers(Lossless(), films, 3).items():
        assert entries == [(100.0, 1.0)] * {"frame": 4, "unrounded": 4, "latent": 3, "repeated": 1}[name]


def rendered(world: CameraWorld, number: int) -> Tensor:
    spec = world.spec
    size = {"height": spec.height, "width": spec.width, "horizontal_fov_deg": spec.horizontal_fov_deg}
    clips = ClipSetConfig(num_clips=number, num_latents=5, first_seed=HELD_OUT_SEED, **size)
    return torch.stack([torch.from_numpy(render_record(clips, HELD_OUT_SEED + i).frames) for i in range(number)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_frames_fade_steadily_and_latents_are_off_at_once(name: str) -> None:
    world = load_world(name)
    assert isinstance(world, CameraWorld)
    found = measure_handovers(world._vae, rendered(world, 8), max(SHOWN))
    frame, latent = ([entry[0] for entry in found[key]] for key in ("frame", "latent"))
    for k in (0, *SHOWN):
        cells = [f"{key} {found[key][k][0]:.1f} dB {found[key][k][1]:.2f}" for key in ("frame", "unrounded")]
        print(f"{name} {k}", *cells, *([f"latent {latent[k - 1]:.1f} dB {found['latent'][k - 1][1]:.2f}"] if k else []))
    print(f"{name} repeated {found['repeated'][0][0]:.1f} dB {found['repeated'][0][1]:.2f}")
    assert all(later < sooner for sooner, later in pairwise(frame))
    assert all(of_latent < of_frame - 3 for of_latent, of_frame in zip(latent, frame[1:], strict=True))
    assert all(abs(rounded - whole[0]) < 0.1 for rounded, whole in zip(frame, found["unrounded"], strict=True))
