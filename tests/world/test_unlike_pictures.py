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
from model.world.camera_world import CameraWorld
from model.world.load import load_world
from model.world.synthetic_world import SyntheticWorld

NUM_SCENES = 48


@pytest.fixture(scope="module")
def world() -> CameraWorld:
    world = load_world("tiny")
    assert isinstance(world, CameraWorld)
    return world


@pytest.fixture(scope="module")
def rendered() -> Tensor:
    """First frames of held-out scenes."""
    frames = SyntheticWorld().start(range(HELD_OUT_SEED, HELD_OUT_SEED + NUM_SCENES))[1]
    return frames[:, 0]


def photograph() -> Tensor:
    """Matplotlib's own, of a person in front of a flag; its middle."""
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as picture:
        return torch.from_numpy(np.array(picture.crop((0, 100, 512, 407)).resize((80, 48))))[None]


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (4, 48, 80, 3), generator=generator, dtype=torch.uint8)


def blocks() -> Tensor:
    """Hard edges in colours that no theme has."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(256, (4, 3, 5, 3), generator=generator, dtype=torch.uint8)
    return colours.repeat_interleave(16, 1).repeat_interleave(16, 2)


def psnr_through_vae(world: CameraWorld, pictures: Tensor) -> Tensor:
    error = (world.reconstruct(pictures[:, None])[:, 0].double() - pictures.double()) / 255
    return -10 * error.square().mean(dim=(1, 2, 3)).log10()


def test_the_worlds_own_pictures_are_distinguished_from_others(world: CameraWorld, rendered: Tensor) -> None:
    threshold = world._familiar_psnr
    assert threshold is not None
    kinds = {"rendered": rendered, "photograph": photograph(), "noise": noise(), "blocks": blocks()}
    figures = {name: psnr_through_vae(world, pictures) for name, pictures in kinds.items()}
    for name, figure in figures.items():
        print(f"{name}: {len(figure)} pictures, {figure.min():.1f} to {figure.max():.1f} dB")
    assert figures.pop("rendered").min() > threshold + 1
    assert all(figure.max() < threshold - 2 for figure in figures.values())


def test_unlike_pictures_are_warned_of_with_their_figure(world: CameraWorld) -> None:
    for pictures in (photograph(), noise(), blocks()):
        figure = psnr_through_vae(world, pictures).min()
        with pytest.warns(UserWarning, match=rf"^image: this picture is unlike .* at {figure:.1f} dB, .* 34 dB"):
            world.start(range(len(pictures)), images=pictures)


def test_the_worlds_own_are_not(world: CameraWorld, rendered: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.start(range(8), images=rendered[:8])
        generated = world.start([3], prompts=["a snowy plain with a red box"])[1][:, 0]
        world.start([3], images=generated)
