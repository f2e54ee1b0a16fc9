"""Memory: the context is what shows most of where the camera goes, and the oldest of equal views."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.dit.video_dit import VideoDiT
from model.geometry import se3
from model.geometry.camera import default_intrinsics
from model.world import memory
from model.world.camera_world import CameraWorld

NUM, MEMORY = 5, 2


def window_of(c2w: Tensor, capacity: int = 32) -> memory.TensorDict:
    """A window whose latents say their number."""
    b, n = c2w.shape[:2]
    numbers = torch.arange(n, dtype=torch.float32)[None, None, :, None, None].expand(b, 1, n, 1, 1)
    return memory.open_window(numbers, c2w, capacity)


def turn(degrees: list[float]) -> Tensor:
    """Poses on one spot that look this far to the right of the first."""
    twists = torch.zeros(1, len(degrees), 6)
    twists[..., 4] = torch.tensor(degrees) * math.pi / 180
    return se3.exp(twists)


def chosen(past: Tensor, new: Tensor, num: int = NUM, num_memory: int = MEMORY) -> list[list[int]]:
    lens = default_intrinsics().expand(len(past), 4)
    latents, poses = memory.choose_context(window_of(past), new, lens, num, num_memory)
    numbers = latents[:, 0, :, 0, 0].long()
    assert torch.equal(poses, past[torch.arange(len(past))[:, None], numbers])  # each with its own pose
    return numbers.tolist()


def test_turning_back_recalls_the_views_of_what_comes_into_sight() -> None:
    past = turn([0, 20, 40, 60, 80, 100, 120, 140, 160, 180])
    context = chosen(past, turn([60, 40, 20, 0]))[0]
    assert context[2:] == [7, 8, 9]
    # a field of view of 75 degrees: two of the views of 0 to 60 degrees show it all
    assert all(number <= 3 for number in context[:2])


def test_of_views_that_add_nothing_the_fullest_and_then_the_oldest_are_taken() -> None:
    straight = se3.exp(torch.tensor([0.0, 0, 0.3, 0, 0, 0]) * torch.arange(12)[:, None])[None]
    assert chosen(straight[:, :8], straight[:, 8:]) == [[0, 1, 5, 6, 7]]
    assert chosen(turn([0.0] * 8), turn([0.0] * 4)) == [[0, 1, 5, 6, 7]]
    assert chosen(turn([170, 180, 20, 10, 0, 0, 0, 0]), turn([0.0] * 4)) == [[3, 4, 5, 6, 7]]


def test_rows_choose_for_themselves() -> None:
    past = torch.cat([turn([0, 30, 60, 90, 120, 150, 180]), turn([0] * 7)])
    new = torch.cat([turn([0] * 4), turn([0] * 4)])
    together = chosen(past, new)
    assert together == chosen(past[:1], new[:1]) + chosen(past[1:], new[1:])
    assert together[0][0] == 0 and together[1] == [0, 1, 4, 5, 6]


def test_only_entries_that_are_there_are_chosen() -> None:
    past = turn([0, 90, 180, 90, 0])
    assert chosen(past, turn([180] * 4)) == [[0, 1, 2, 3, 4]]  # five entries for a context of five


@pytest.mark.parametrize("capacity", [5, 9])
def test_a_world_remembers_as_far_as_its_memory_reaches(
    dit: VideoDiT, make_world: Callable[..., CameraWorld], capacity: int
) -> None:
    """Out and back: with room for the first clip the way home is generated from other latents than the latest."""
    seen: list[Tensor] = []

    class Recorder(VideoDiT):
        def embed_camera(self, plucker: Tensor) -> Tensor:
            seen.append(plucker)
            return super().embed_camera(plucker)

    recorder = Recorder(dit.config).requires_grad_(False)
    recorder.load_state_dict(dit.state_dict())
    world = make_world(recorder, memory_latents=2, memory_capacity=capacity)
    state, _ = world.start([3])
    for clip in (turn([45, 90, 135, 180]), turn([180] * 4), turn([135, 90, 45, 0])):
        state, _ = world.extend(state, clip)
    directions = seen[-1][-1, :NUM, 3:].mean(dim=(-2, -1))  # of the context's views, guidance's last branch
    looks_ahead = bool((directions[:, 2] > 0.5).any())
    assert looks_ahead == (capacity == 9)


def test_more_memory_than_context_is_refused(make_world: Callable[..., CameraWorld]) -> None:
    with pytest.raises(ValueError, match="memory_latents: expected 0 to 4, got 5"):
        make_world(context_latents=5, memory_latents=5)
