"""A first frame unlike the shipped world's own pictures is warned of, with the figure; the world's own never is.

`python -m pytest tests/world/test_unlike_pictures.py -s` prints what the threshold of its `world.yaml` was chosen from.
"""

import warnings

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import Tensor

from model.data.synthetic.seeds import HELD_OUT_SEED
from model.pretrained import shipped_worlds
from model.world.camera_world import CameraWorld
from model.world.load import load_world
from model.world.synthetic_world import SyntheticWorld

NUM_SCENES = 48


@pytest.fixture(scope="module", params=shipped_worlds())
def world(request: pytest.FixtureRequest) -> CameraWorld:
    world = load_world(request.param)
    assert isinstance(world, CameraWorld)
    return world


@pytest.fixture(scope="module")
def rendered(world: CameraWorld) -> Tensor:
    """First frames of held-out scenes."""
    size = {"height": world.spec.height, "width": world.spec.width}
    frames = SyntheticWorld(**size).start(range(HELD_OUT_SEED, HELD_OUT_SEED + NUM_SCENES))[1]
    return frames[:, 0]


def photograph(height: int, width: int) -> Tensor:
    """Matplotlib's own, of a person in front of a flag; its middle."""
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as picture:
        return torch.from_numpy(np.array(picture.crop((0, 100, 512, 407)).resize((width, height))))[None]


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (4, height, width, 3), generator=generator, dtype=torch.uint8)


def blocks(height: int, width: int) -> Tensor:
    """Hard edges in colours that no theme has."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(256, (4, 3, 5, 3), generator=generator, dtype=torch.uint8)
    return colours.repeat_interleave(height // 3, 1).repeat_interleave(width // 5, 2)


def psnr_through_vae(world: CameraWorld, pictures: Tensor) -> Tensor:
    error = (world.reconstruct(pictures[:, None])[:, 0].double() - pictures.double()) / 255
    return -10 * error.square().mean(dim=(1, 2, 3)).log10()


def test_the_worlds_own_pictures_are_distinguished_from_others(world: CameraWorld, rendered: Tensor) -> None:
    threshold = world._familiar_psnr
    assert threshold is not None
    size = world.spec.height, world.spec.width
    kinds = {"rendered": rendered, "photograph": photograph(*size), "noise": noise(*size), "blocks": blocks(*size)}
    figures = {name: psnr_through_vae(world, pictures) for name, pictures in kinds.items()}
    for name, figure in figures.items():
        print(f"{name}: {len(figure)} pictures, {figure.min():.1f} to {figure.max():.1f} dB")
    assert figures.pop("rendered").min() > threshold + 1
    assert all(figure.max() < threshold - 2 for figure in figures.values())


def test_unlike_pictures_are_warned_of_with_their_figure(world: CameraWorld) -> None:
    size = world.spec.height, world.spec.width
    for pictures in (photograph(*size), noise(*size), blocks(*size)):
        figure = psnr_through_vae(world, pictures).min()
        with pytest.warns(
            UserWarning,
            match=rf"^image: this picture is unlike .* at {figure:.1f} dB, .* {world._familiar_psnr:.0f} dB",
        ):
            world.start(range(len(pictures)), images=pictures)


def test_the_worlds_own_are_not(world: CameraWorld, rendered: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.start(range(8), images=rendered[:8])
        generated = world.start([3], prompts=["a snowy plain with a red box"])[1][:, 0]
        world.start([3], images=generated)
