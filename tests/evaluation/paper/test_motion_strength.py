"""Motion strength on pictures of which the flow is known: objects count, the camera does not."""

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from model.estimators.optical_flow import DISFlow
from model.evaluation.paper.motion_strength import camera_share, motion_strength

FRAMES, HEIGHT, WIDTH = 6, 120, 160


def texture(height: int, width: int, seed: int) -> torch.Tensor:
    noise = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).byte().movedim(0, -1)


def film(camera: int, object_right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A background that slides left by `camera` pixels a frame, and a patch on it that goes right by `object_right`.

    Returns frames, and the mask of the patch.
    """
    background, patch = texture(HEIGHT, WIDTH + 100, 0), texture(40, 40, 1)
    frames = torch.stack([background[:, camera * i : camera * i + WIDTH] for i in range(FRAMES)]).clone()
    moving = torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for i in range(FRAMES):
        left = 50 + object_right * i
        frames[i, 40:80, left : left + 40] = patch
        moving[i, 40:80, left : left + 40] = True
    return frames, moving


def test_an_object_before_a_standing_camera_counts_what_it_moves():
    frames, moving = film(camera=0, object_right=3)
    strength = motion_strength(frames, moving, DISFlow())
    assert strength.pixels == pytest.approx(3, abs=0.4)
    assert strength.degrees == pytest.approx(57.2958 * strength.pixels, rel=1e-4)
    assert strength.moving_share == pytest.approx(40 * 40 / (HEIGHT * WIDTH))


def test_the_camera_share_is_taken_out():
    frames, moving = film(camera=4, object_right=-1)  # the object goes 3 pixels against the background
    strength = motion_strength(frames, moving, DISFlow())
    assert strength.pixels == pytest.approx(3, abs=0.5)
    assert strength.flow_pixels == pytest.approx(1, abs=0.4)


def test_an_object_that_only_the_camera_moves_has_nothing_of_its_own():
    frames, moving = film(camera=4, object_right=-4)
    strength = motion_strength(frames, moving, DISFlow())
    assert strength.pixels < 0.3
    assert strength.flow_pixels == pytest.approx(4, abs=0.4)


def test_a_frozen_film_has_no_motion():
    frames, _ = film(camera=0, object_right=0)
    strength = motion_strength(frames, torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool), DISFlow())
    assert (strength.pixels, strength.flow_pixels, strength.moving_share) == (0, 0, 0)


def test_the_camera_share_inside_an_object_is_that_of_its_surroundings():
    static = np.ones((HEIGHT, WIDTH), bool)
    static[40:80, 50:90] = False
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[..., 0] = 2.0
    flow[~static] = (-7.0, 5.0)
    assert np.abs(camera_share(flow, static) - (2.0, 0.0)).max() < 0.05


def test_where_nothing_is_known_to_rest_the_camera_is_taken_to_stand():
    flow = np.ones((HEIGHT, WIDTH, 2), np.float32)
    assert not camera_share(flow, np.zeros((HEIGHT, WIDTH), bool)).any()
