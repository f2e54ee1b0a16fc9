"""Measures, clip by clip, whether a flight shows what its caption says, judged by the colours of objects.

Kinds of objects (a box, a dome) are not judged: at 48x80 no measure here distinguishes them reliably.

Source: ours, because an object that comes into view late has no true picture to compare with, but a true colour.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT
from model.evaluation.prompts import (
    COLOURS,
    LEAST_SHARE,
    ColourClassifier,
    another_of_its_theme,
    named_colours,
    scenes_with_colours,
)
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import ratios

# A colour is expected if its objects truly cover this share of a clip's pixels: twice the share that counts as found,
# so that pixels at their borders, whose colour is not sure, do not decide.
_EXPECTED_SHARE = 2 * LEAST_SHARE


@dataclass(frozen=True)
class CaptionedScenes:
    """The colours that captions name, and the colours in view in each clip of their scenes' flights.

    Attributes:
        named: The colours that the caption names.
        visible: The colours that the true camera sees in the clip, on 1 % of its pixels or more.
        themes: The scenes' theme phrases, for a `ColourClassifier`.
    """

    named: Bool[Tensor, "n colours"]
    visible: Bool[Tensor, "n clips colours"]
    themes: list[str]

    @classmethod
    def of(
        cls, truths: list[SceneTruth], captions: list[str], poses: Float[Tensor, "n f 4 4"], frames_per_clip: int
    ) -> "CaptionedScenes":
        """Renders along the commanded path, at every fourth frame (one per latent), to find the colours in view."""
        named = torch.tensor([[colour in named_colours(caption) for colour in COLOURS] for caption in captions])
        at = torch.arange(FRAMES_PER_LATENT, poses.shape[1], FRAMES_PER_LATENT)
        per_clip = frames_per_clip // FRAMES_PER_LATENT
        visible = [
            _cover(truth, truth.objects(path[at], at / truth.fps)).unflatten(0, (-1, per_clip)).mean(dim=1)
            for truth, path in tqdm(zip(truths, poses, strict=True), desc="colours in view", total=len(truths))
        ]
        return cls(named, torch.stack(visible) >= _EXPECTED_SHARE, [truth.scene.theme.phrase for truth in truths])

    def swapped(self) -> "CaptionedScenes":
        """Every scene with the caption and the views of another scene, of the same theme if there is one."""
        other = [another_of_its_theme(self.themes, i) for i in range(len(self.themes))]
        return CaptionedScenes(self.named[other], self.visible[other], self.themes)

    def compare(self, shown: Float[Tensor, "n clips colours"]) -> dict[str, list[float | None]]:
        """`found`: of the colours that are named and truly in view, the share that the clip shows; `named`: of the
        pixels with a sure object colour, the share whose colour the caption names. Pooled over the scenes; None where
        there is nothing to find."""
        expected, named = self.visible & self.named[:, None], self.named[:, None].expand(shown.shape)
        found = expected & (shown >= LEAST_SHARE)
        return {
            "found": ratios(_per_clip(found), _per_clip(expected)),
            "named": ratios(_per_clip(shown * named), _per_clip(shown)),
        }


def measure_caption_colours(
    judge: ColourClassifier,
    truths: list[SceneTruth],
    captions: list[str],
    films: dict[str, UInt8[Tensor, "n f h w 3"]],
    poses: Float[Tensor, "n f 4 4"],
    frames_per_clip: int,
) -> dict[str, object]:
    """Compares every film with its captions; the control `other` compares the first film with other scenes' captions.

    Captions name what the first frame shows. Objects that come into view later may have other colours, in true films,
    too: the true films' values are the floor of `named`. `expected` counts the named colours in view.

    Raises:
        ValueError: No caption names a colour.
    """
    rows = scenes_with_colours(captions)
    scenes = CaptionedScenes.of([truths[i] for i in rows], [captions[i] for i in rows], poses[rows], frames_per_clip)
    shown = {name: _shown(judge, film[rows], scenes.themes, frames_per_clip) for name, film in films.items()}
    section: dict[str, object] = {name: scenes.compare(cover) for name, cover in shown.items()}
    if len(rows) > 1:
        section["other"] = scenes.swapped().compare(next(iter(shown.values())))
    expected = _per_clip(scenes.visible & scenes.named[:, None])
    return section | {"expected": expected.int().tolist()}


def _shown(
    judge: ColourClassifier, film: UInt8[Tensor, "n f h w 3"], themes: list[str], frames_per_clip: int
) -> Float[Tensor, "n clips colours"]:
    clips = film[:, FRAMES_PER_LATENT::FRAMES_PER_LATENT].split(frames_per_clip // FRAMES_PER_LATENT, dim=1)
    return torch.stack([torch.stack([judge.cover(clip[i], theme) for clip in clips]) for i, theme in enumerate(themes)])


def _cover(truth: SceneTruth, objects: Int[Tensor, "f h w"]) -> Float[Tensor, "f colours"]:
    """The share of every frame's pixels that objects of each colour cover."""
    colour = torch.tensor([COLOURS.index(item.colour) for item in truth.scene.objects] + [len(COLOURS)])[objects]
    counts = [torch.bincount(frame.flatten(), minlength=len(COLOURS) + 1)[:-1] for frame in colour]
    return torch.stack(counts) / objects[0].numel()


def _per_clip(values: Tensor) -> Float[Tensor, " clips"]:
    return values.float().sum(dim=(0, 2))
