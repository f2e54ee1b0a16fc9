"""Measures whether a picture made from a prompt shows the prompt's colours, judged by the renderer's own colours.

Source: ours, because the scenes have a closed palette: the look of a red box at dusk is known, and needs no CLIP.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.synthetic.seeds import CALIBRATION_SEED
from model.data.synthetic.themes import PALETTE
from model.evaluation.oracle import OracleScenes
from model.evaluation.truth import SceneTruth
from model.text.tiny_vocabulary import split_words
from model.world.protocol import WorldModel
from model.world.synthetic_world import SyntheticWorld

COLOURS = tuple(PALETTE)
_BITS = 4  # of each of red, green and blue: they define a pixel's coarse colour
_SURE = 0.7  # share of a coarse colour's pixels that must have belonged to objects of one palette colour
LEAST_SHARE = 0.005  # of the picture; a smaller patch of a colour does not count: 19 of 48x80 pixels


@dataclass(frozen=True)
class ColourClassifier:
    """Tells which palette colours a picture shows, calibrated on the renderer's pictures of every theme.

    Attributes:
        shares: For each theme and coarse colour, how often a pixel belonged to an object of each of `COLOURS`, or
            (last) to none.
    """

    shares: dict[str, Float[Tensor, "bins colours"]]

    @classmethod
    def calibrated(cls, like: SceneTruth, num_scenes: int = 512) -> "ColourClassifier":
        """Learns from the first pictures of `num_scenes` scenes, in the size and through the lens of `like`."""
        unseen = torch.cat([torch.full((2 ** (3 * _BITS), len(COLOURS)), 0.01), torch.ones(2 ** (3 * _BITS), 1)], 1)
        counts: dict[str, Tensor] = defaultdict(unseen.clone)
        pose, start = torch.eye(4)[None], torch.zeros(1)
        for seed in tqdm(range(CALIBRATION_SEED, CALIBRATION_SEED + num_scenes), desc="learning the colours"):
            truth = SceneTruth.of_seed(seed, like.intrinsics, like.height, like.width, like.fps)
            clip = truth.clip(pose, start)
            names = [COLOURS.index(item.colour) for item in truth.scene.objects] + [len(COLOURS)]
            labels = torch.tensor(names)[clip.objects[0]].flatten()  # -1, no object, is the last one
            places = (_bins(clip.frames[0]).flatten(), labels)
            counts[truth.scene.theme.phrase].index_put_(places, torch.ones(len(labels)), accumulate=True)
        return cls({theme: table / table.sum(1, keepdim=True) for theme, table in counts.items()})

    def cover(self, frames: UInt8[Tensor, "*b h w 3"], theme: str) -> Float[Tensor, " colours"]:
        """For each of `COLOURS`, the share of all pixels that almost surely belong to an object of that colour."""
        share, colour = self.shares[theme][_bins(frames).flatten()].max(-1)
        return torch.bincount(colour[share >= _SURE], minlength=len(COLOURS) + 1)[:-1] / len(colour)

    def colours(self, frame: UInt8[Tensor, "h w 3"], theme: str) -> set[str]:
        """The colours that almost surely cover enough of the picture's pixels."""
        cover = self.cover(frame, theme).tolist()
        return {name for name, share in zip(COLOURS, cover, strict=True) if share >= LEAST_SHARE}


@dataclass(frozen=True)
class PromptFidelity:
    """For every prompt, its named colours and the colours found in the generated and in the rendered picture.

    `other`: the colours found in the picture of another prompt, of the same theme if there is one; None if there is no
    other prompt.
    """

    frames: UInt8[Tensor, "n h w 3"]
    named: list[set[str]]
    generated: list[set[str]]
    rendered: list[set[str]]
    other: list[set[str]] | None

    def summary(self) -> dict[str, float | int]:
        """Shares in [0, 1]: of named colours that are found, of prompts whose colours are all found, and of found
        colours that are named.

        The rendered pictures' shares show how good the judge is (a caption does not name everything); those of `other`
        show what chance gives.
        """
        figures: dict[str, float | int] = {"prompts": len(self.named)}
        for name, found in (("generated", self.generated), ("rendered", self.rendered), ("other", self.other)):
            if found is None:
                continue
            there = [len(names & seen) for names, seen in zip(self.named, found, strict=True)]
            whole = sum(count == len(names) for count, names in zip(there, self.named, strict=True))
            figures[f"colours_{name}"] = round(sum(there) / sum(map(len, self.named)), 3)
            figures[f"whole_prompts_{name}"] = round(whole / len(there), 3)
            figures[f"named_{name}"] = round(sum(there) / max(1, sum(map(len, found))), 3)
        return figures


def measure_prompts(
    world: WorldModel, scenes: OracleScenes, judge: ColourClassifier, batch_size: int = 16
) -> PromptFidelity:
    """Starts an episode from every caption that names a colour, and looks for the colours.

    Args:
        world: It gets prompts alone, no picture.
        scenes: Held-out scenes.
        judge: Calibrated at the scenes' size and lens.
        batch_size: Episodes started at once.

    Raises:
        ValueError: No caption names a colour.
    """
    truths = scenes.truths()
    rows = scenes_with_colours(scenes.captions)
    themes = [truths[i].scene.theme.phrase for i in rows]
    frames = []
    for first in tqdm(range(0, len(rows), batch_size), desc="opening from prompts", unit="batch"):
        part = rows[first : first + batch_size]
        # the renderer knows a scene by its seed and takes no prompt
        prompts = None if isinstance(world, SyntheticWorld) else [scenes.captions[i] for i in part]
        frames.append(world.start([scenes.seeds[i] for i in part], prompts)[1][:, 0].cpu())
    pictures = torch.cat(frames)
    swapped = [pictures[another_of_its_theme(themes, i)] for i in range(len(rows))]
    return PromptFidelity(
        pictures,
        [named_colours(scenes.captions[i]) for i in rows],
        [judge.colours(picture, theme) for picture, theme in zip(pictures, themes, strict=True)],
        [judge.colours(scenes.frames[i, 0], theme) for i, theme in zip(rows, themes, strict=True)],
        [judge.colours(*pair) for pair in zip(swapped, themes, strict=True)] if len(rows) > 1 else None,
    )


def named_colours(caption: str) -> set[str]:
    """The palette's colours among the caption's words for objects, without the theme's words ("a golden desert")."""
    return set(split_words(caption.partition(" with ")[2])) & set(COLOURS)


def scenes_with_colours(captions: Sequence[str]) -> list[int]:
    """The indices of the captions that name a colour.

    Raises:
        ValueError: No caption names a colour.
    """
    rows = [i for i, caption in enumerate(captions) if named_colours(caption)]
    if not rows:
        raise ValueError("prompts: expected scenes whose captions name colours, got none; take more scenes")
    return rows


def another_of_its_theme(themes: Sequence[str], index: int) -> int:
    """The next index (cyclic) with the same theme; the next index of any theme if there is none."""
    order = [(index + step) % len(themes) for step in range(1, len(themes) + 1)]
    return next((j for j in order[:-1] if themes[j] == themes[index]), order[0])


def _bins(frames: UInt8[Tensor, "*b h w 3"]) -> Int[Tensor, "*b h w"]:
    coarse = frames.long() >> (8 - _BITS)
    return (coarse[..., 0] << (2 * _BITS)) | (coarse[..., 1] << _BITS) | coarse[..., 2]
