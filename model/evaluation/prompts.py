"""Does a picture made from a prompt show the colours that the prompt names? Judged by how the renderer colours objects.

Source: ours, because the scenes have a closed palette: what a red box looks like at dusk is known, and needs no CLIP.
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
_BITS = 4  # of each of red, green and blue that distinguish pixels
_SURE = 0.7  # share of a coarse colour's pixels that must have been the object's
LEAST_SHARE = 0.005  # of the picture; a smaller patch of a colour does not count: 19 of 48x80 pixels


@dataclass(frozen=True)
class ColourJudge:
    """Tells which palette colours a picture shows, having seen how the renderer paints them in every theme.

    Attributes:
        shares: For each theme, by a pixel's coarse colour, how often it was an object of each of `COLOURS` or (last)
            none.
    """

    shares: dict[str, Float[Tensor, "bins colours"]]

    @classmethod
    def calibrated(cls, like: SceneTruth, num_scenes: int = 512) -> "ColourJudge":
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
        """The share of all pixels that are almost surely an object of each of `COLOURS`."""
        share, colour = self.shares[theme][_bins(frames).flatten()].max(-1)
        return torch.bincount(colour[share >= _SURE], minlength=len(COLOURS) + 1)[:-1] / len(colour)

    def colours(self, frame: UInt8[Tensor, "h w 3"], theme: str) -> set[str]:
        """The colours that enough of the picture's pixels have almost surely."""
        cover = self.cover(frame, theme).tolist()
        return {name for name, share in zip(COLOURS, cover, strict=True) if share >= LEAST_SHARE}


@dataclass(frozen=True)
class PromptFidelity:
    """For every prompt the colours named, and those found in the picture made from it and in the rendered one.

    `other` are those found in the picture made from another prompt, of the same theme if there is one; None where there
    is no other prompt.
    """

    frames: UInt8[Tensor, "n h w 3"]
    named: list[set[str]]
    generated: list[set[str]]
    rendered: list[set[str]]
    other: list[set[str]] | None

    def summary(self) -> dict[str, float | int]:
        """Shares in [0, 1]: of the named colours that are there, of the prompts all of whose colours are there, and of
        the colours there that are named.

        Of the rendered pictures they say how good the judge is (a caption does not name everything), of the other
        prompt's picture what chance gives.
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
    world: WorldModel, scenes: OracleScenes, judge: ColourJudge, batch_size: int = 16
) -> PromptFidelity:
    """Opens an episode for the caption of every scene that names a colour, and looks for the colours.

    Args:
        world: Made from prompts alone; no picture is given.
        scenes: Held-out ones.
        judge: Calibrated in the scenes' size and lens.
        batch_size: Episodes opened at once.

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
    """The palette's colours among the words that name objects (a theme's own words, "a golden desert", are not)."""
    return set(split_words(caption.partition(" with ")[2])) & set(COLOURS)


def scenes_with_colours(captions: Sequence[str]) -> list[int]:
    """The places of the captions that name a colour.

    Raises:
        ValueError: There is none.
    """
    rows = [i for i, caption in enumerate(captions) if named_colours(caption)]
    if not rows:
        raise ValueError("prompts: expected scenes whose captions name colours, got none; take more scenes")
    return rows


def another_of_its_theme(themes: Sequence[str], index: int) -> int:
    """The next place with the same theme, going round; the next place at all if there is none."""
    order = [(index + step) % len(themes) for step in range(1, len(themes) + 1)]
    return next((j for j in order[:-1] if themes[j] == themes[index]), order[0])


def _bins(frames: UInt8[Tensor, "*b h w 3"]) -> Int[Tensor, "*b h w"]:
    coarse = frames.long() >> (8 - _BITS)
    return (coarse[..., 0] << (2 * _BITS)) | (coarse[..., 1] << _BITS) | coarse[..., 2]
