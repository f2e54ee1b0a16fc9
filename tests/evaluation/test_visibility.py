"""What was seen before, on a wall whose views can be worked out by hand."""

import torch

from model.evaluation.visibility import seen_at_start, seen_before_clip, visible_from
from model.geometry import primitives

LENS = torch.tensor([0.5, 0.5, 0.5, 0.5])  # 90 degrees: at 2 m, the picture is 4 m wide


def wall(depth: float, frames: int = 1) -> torch.Tensor:
    return torch.full((frames, 8, 16), depth)


def test_a_step_aside_reveals_what_the_geometry_says() -> None:
    # 1 m to the right before a wall at 2 m: a quarter of the picture, its rightmost 4 of 16 columns, is new
    c2w = primitives.truck(1.0, 2).c2w
    seen = seen_at_start(wall(2.0, 2), wall(2.0)[0], c2w, c2w[0], LENS)
    assert seen[0].all()
    assert seen[1, :, :12].all()
    assert not seen[1, :, 12:].any()


def test_what_was_hidden_is_new() -> None:
    # the other camera has something before the wall in its left half
    other = wall(2.0)
    other[:, :, :8] = 1.0
    seen = visible_from(wall(2.0)[0], torch.eye(4), other, torch.eye(4)[None], LENS)[0]
    assert not seen[:, :8].any()
    assert seen[:, 8:].all()


def test_the_sky_is_seen_again_by_direction_alone() -> None:
    c2w = primitives.truck(3.0, 2).c2w
    sky = wall(torch.inf)
    assert visible_from(sky[0], c2w[1], sky, c2w[:1], LENS).all()
    behind = primitives.pan(torch.pi, 2).c2w
    assert not visible_from(sky[0], behind[1], sky, c2w[:1], LENS).any()


def test_what_a_clip_reveals_is_new_to_all_its_frames_and_old_to_the_next_clip() -> None:
    c2w = primitives.truck(1.0, 2).c2w[[0, 1, 1, 1, 1]]  # clips of two frames: 1 2 | 3 4
    seen = seen_before_clip(wall(2.0, 5), wall(2.0, 5), c2w, LENS, frames_per_clip=2, every=1)
    assert not seen[1:3, :, 12:].any()
    assert seen[3:].all()
