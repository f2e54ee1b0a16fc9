"""Blobs that keep colour and size are found unchanged; planted changes are measured."""

import pytest
import torch

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.oracle import render_oracle_scenes
from model.evaluation.steadiness import BlobChanges, blobs, measure_steadiness


def frame(colour: int, left: int = 4, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of a colour on black, and where it is."""
    picture = torch.zeros(20, 30, 3, dtype=torch.uint8)
    picture[3 : 3 + size, left : left + size] = colour
    return picture, (picture > 0).any(dim=-1)


def test_only_whole_blobs_of_some_size_are_numbered() -> None:
    covered = torch.zeros(20, 30, dtype=torch.bool)
    covered[2:8, 2:8] = True
    covered[10:12, 10:12] = True  # too small
    covered[14:20, 20:28] = True  # touches the edge
    labels = blobs(covered)
    assert labels.unique().tolist() == [0, 1] and bool((labels[2:8, 2:8] == 1).all()) and int(labels.sum()) == 36


@pytest.mark.parametrize(
    ("colour", "left", "size", "wanted"),
    [
        (100, 5, 6, {"colour": 0.0, "size": 0.0, "found": 1.0}),  # it moves by a pixel
        (130, 4, 6, {"colour": 30.0, "size": 0.0, "found": 1.0}),
        (100, 4, 12, {"colour": 0.0, "size": 2.0, "found": 1.0}),  # four times the area: two octaves
        (100, 16, 6, {"colour": None, "size": None, "found": 0.0}),  # it is elsewhere
    ],
)
def test_planted_changes_are_measured(colour: int, left: int, size: int, wanted: dict[str, float | None]) -> None:
    changes = BlobChanges()
    (first, covered), (second, later) = frame(100), frame(colour, left, size)
    changes.compare(first, second, (covered, later))
    assert changes.summary() == wanted


def test_without_blobs_nothing_is_said() -> None:
    changes = BlobChanges()
    empty = torch.zeros(20, 30, 3, dtype=torch.uint8)
    changes.compare(empty, empty, (torch.zeros(20, 30, dtype=torch.bool),) * 2)
    assert changes.summary() == {"colour": None, "size": None, "found": None}


def test_true_films_are_steadier_than_ones_whose_colours_flicker() -> None:
    scenes = render_oracle_scenes(ClipSetConfig(num_clips=4, num_latents=5, first_seed=HELD_OUT_SEED), 4)
    generator = torch.Generator().manual_seed(0)
    shade = torch.randint(-20, 21, (*scenes.frames.shape[:2], 1, 1, 1), generator=generator)
    flickering = (scenes.frames.int() + shade).clamp(0, 255).byte()
    films = {"true": scenes.frames, "flickering": flickering}
    section = measure_steadiness(scenes.truths(), films, scenes.frame_poses(), 16)
    assert section["true"]["colour"][0] < 3 < section["flickering"]["colour"][0]
    assert section["true"]["found"][0] > 0.8
