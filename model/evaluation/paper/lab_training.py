"""Trains the lab network on rendered clips, whose theme, colours, shapes and motions the renderer knows."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from model.data.clips import ClipSet, ClipSetConfig, render_clip_set
from model.data.synthetic.scene import sample_scene
from model.evaluation.paper.lab_network import NAMES, NUM_FRAMES, LabNetwork, LabNetworkConfig
from model.training.state import generator_for

_STYLES = ("soft", "textured")
_HELD_OUT = 8  # one clip in this many is held out


class NamedClips(NamedTuple):
    """Clips, and for every head which of its names are true: one theme, any number of names of other heads."""

    frames: UInt8[Tensor, "n f h w 3"]
    theme: Bool[Tensor, "n t"]
    colours: Bool[Tensor, "n c"]
    shapes: Bool[Tensor, "n s"]
    motions: Bool[Tensor, "n m"]

    def rows(self, chosen: Tensor | slice) -> "NamedClips":
        """Returns some of the clips."""
        return NamedClips(*(each[chosen] for each in self))


@dataclass(kw_only=True)
class LabClipsConfig:
    """What is rendered.

    Attributes:
        render_into: The folder of the clips; existing clips are not rendered again.
        num_clips: Clips of each style.
        num_workers: Processes that render.
    """

    render_into: str = "runs/lab_network/clips"
    num_clips: int = 4096
    num_workers: int = 1


def render_named_clips(config: LabClipsConfig, network: LabNetworkConfig) -> NamedClips:
    """Returns clips of both styles with their names, at the network's size, in an order that mixes the styles."""
    parts = []
    for style in _STYLES:
        clips = ClipSetConfig(
            num_clips=config.num_clips,
            num_latents=1 + NUM_FRAMES // 4,
            height=network.height,
            width=network.width,
            style=style,
        )
        parts.append(_named(render_clip_set(Path(config.render_into) / style, clips, config.num_workers), style))
    return NamedClips(*(torch.stack(each, dim=1).flatten(0, 1) for each in zip(*parts, strict=True)))


def split(clips: NamedClips) -> tuple[NamedClips, NamedClips]:
    """Returns the training clips and the held-out clips."""
    first = len(clips.frames) - max(1, len(clips.frames) // _HELD_OUT)
    return clips.rows(slice(first)), clips.rows(slice(first, None))


def names_in_view(seed: int, style: str) -> dict[str, Bool[np.ndarray, " k"]]:
    """Returns a scene's theme, and the colours, shapes and motions in view from its start pose."""
    scene = sample_scene(seed, style)
    seen = scene.visible_at_start()
    return {
        "theme": _chosen("theme", {scene.theme.phrase}),
        "colours": _chosen("colours", {item.colour for item in seen}),
        "shapes": _chosen("shapes", {item.kind for item in seen}),
        "motions": _chosen("motions", {item.motion.kind for item in seen if item.motion is not None}),
    }


class LabBatches:
    """Batches as a pure function of (seed, step, micro): random clips, half of them mirrored."""

    def __init__(self, clips: NamedClips, batch_size: int, seed: int) -> None:
        self.clips, self.batch_size, self.seed = clips, batch_size, seed

    def __call__(self, step: int, micro: int = 0) -> NamedClips:
        """Returns one batch."""
        generator = generator_for(torch.device("cpu"), self.seed, step, micro)
        rows = torch.randint(len(self.clips.frames), (self.batch_size,), generator=generator)
        batch = self.clips.rows(rows)
        is_mirrored = torch.rand(self.batch_size, generator=generator) < 0.5
        frames = torch.where(is_mirrored[:, None, None, None, None], batch.frames.flip(-2), batch.frames)
        begin = int(torch.randint(2, (), generator=generator))
        return batch._replace(frames=frames[:, begin : begin + NUM_FRAMES])


def lab_step(
    module: nn.Module, batch: NamedClips, generator: torch.Generator
) -> tuple[Float[Tensor, ""], dict[str, Tensor | float]]:
    """Step function of `fit`: cross-entropy of the theme and of every other name's presence."""
    losses = naming_losses(module(batch.frames), batch)
    return torch.stack(list(losses.values())).sum(), {name: loss.detach() for name, loss in losses.items()}


def naming_losses(logits: dict[str, Tensor], clips: NamedClips) -> dict[str, Float[Tensor, ""]]:
    """Returns the loss of every head."""
    named = clips._asdict()
    losses = {"theme": functional.cross_entropy(logits["theme"], named["theme"].float().argmax(dim=-1))}
    for name in list(NAMES)[1:]:
        losses[name] = functional.binary_cross_entropy_with_logits(logits[name], named[name].float())
    return losses


@torch.no_grad()
def centre_frame_features(module: LabNetwork, clips: NamedClips) -> None:
    """Moves the mean of the frames' features to zero; no logit changes.

    The cosine of two features that share a large mean is near 1 whatever they show.
    """
    parts = clips.frames[:, :NUM_FRAMES].split(16)
    means = [module.of_frames(module.prepared(part)).mean(dim=1) for part in parts]
    mean = torch.cat(means).mean(dim=0)
    module.frame_features.bias.sub_(mean)
    for head in module.heads.values():
        assert isinstance(head, nn.Linear)
        head.bias.add_(head.weight[:, : len(mean)] @ mean)


@torch.no_grad()
def held_out_accuracy(module: LabNetwork, clips: NamedClips) -> dict[str, float]:
    """Returns the share of right themes; and for the other heads the mean area under the ROC curve (chance: .5)."""
    logits = [module.eval()(part) for part in clips.frames[:, :NUM_FRAMES].split(16)]
    said = {name: torch.cat([each[name] for each in logits]) for name in NAMES}
    named = clips._asdict()
    figures = {"theme_accuracy": float((said["theme"].argmax(-1) == named["theme"].float().argmax(-1)).float().mean())}
    for name in list(NAMES)[1:]:
        figures[f"{name}_auc"] = _mean_auc(said[name], named[name])
    return {name: round(value, 3) for name, value in figures.items()}


def _mean_auc(scores: Float[Tensor, "n k"], truth: Bool[Tensor, "n k"]) -> float:
    areas = []
    for score, true in zip(scores.T, truth.T, strict=True):
        if true.any() and not true.all():
            areas.append((score[true][:, None] > score[~true][None]).float().mean())
    return float(torch.stack(areas).mean()) if areas else float("nan")


def _named(clips: ClipSet, style: str) -> NamedClips:
    names = [names_in_view(seed, style) for seed in clips.seeds]
    frames = np.stack([clips.frames(row) for row in range(len(clips))])
    return NamedClips(torch.from_numpy(frames), *(torch.from_numpy(np.stack([n[h] for n in names])) for h in NAMES))


def _chosen(head: str, true: set[str]) -> Bool[np.ndarray, " k"]:
    return np.array([name in true for name in NAMES[head]])
