"""Tests `frechet_lab` and `lab_consistency` on many small rendered clips: a few large films are too few for them.

Source: ours, because a metric that never shows a failure measures nothing.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d

from model.data.clips import ClipSetConfig, render_clip_set
from model.evaluation.paper.appearance import consistency
from model.evaluation.paper.frechet import frechet_distance
from model.evaluation.paper.networks import ImageNetwork, VideoNetwork

_SEED = 7  # of the shuffled order and the noise
_NOISE = 20.0  # grey levels, standard deviation
_BLUR = 4  # pixels
Frames = UInt8[Tensor, "f h w 3"]


def measure_network_controls(
    folder: Path, num_clips: int, first_seed: int, videos: VideoNetwork, images: ImageNetwork
) -> dict[str, dict[str, float | None]]:
    """Returns both metrics of true and of spoilt clips, by condition.

    The Frechet distance is to as many clips of other scenes; the consistency is that of a clip's two halves.

    Args:
        folder: Where the clips are rendered, or found.
        num_clips: Clips of each condition; the distance needs more of them than the network has features.
        first_seed: Of the scenes.
        videos: The network whose features the distance compares.
        images: The network whose features the consistency compares.
    """
    true = ClipSetConfig(num_clips=num_clips, num_latents=5, height=48, width=64, first_seed=first_seed)
    others = dataclasses.replace(true, first_seed=first_seed + num_clips)
    clips = {name: _rendered(folder / name, config) for name, config in (("true", true), ("other_scenes", others))}
    resting = _rendered(folder / "no_moving_objects", dataclasses.replace(true, moving_objects=False))
    spoilt: dict[str, Iterable[Frames]] = {"true clips": clips["true"]}
    spoilt |= {name: [spoil(each) for each in clips["true"]] for name, spoil in SPOILERS.items()}
    spoilt["no moving objects"] = resting
    spoilt["cut to another scene"] = [
        torch.cat((one[: len(one) // 2], other[len(other) // 2 :]))
        for one, other in zip(clips["true"], clips["other_scenes"], strict=True)
    ]
    reference = _features(videos, clips["other_scenes"])
    return {
        name: {
            videos.metric: frechet_distance(_features(videos, films), reference),
            images.metric: _mean_consistency(images, films),
        }
        for name, films in spoilt.items()
    }


def _frozen(frames: Frames) -> Frames:
    return frames[:1].expand_as(frames)


def shuffled(frames: UInt8[Tensor, "f h w 3"]) -> UInt8[Tensor, "f h w 3"]:
    """Returns the frames in a random order."""
    return frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(_SEED))]


def _blurred(frames: Frames) -> Frames:
    small = avg_pool2d(frames.movedim(-1, 1).float(), _BLUR)
    large = torch.nn.functional.interpolate(small, frames.shape[1:3], mode="bilinear")
    return large.round().byte().movedim(1, -1)


def _noised(frames: Frames) -> Frames:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(_SEED))
    return (frames + _NOISE * noise).clamp(0, 255).byte()


def _other_colours(frames: Frames) -> Frames:
    return frames.flip(-1)


SPOILERS: dict[str, Callable[[Frames], Frames]] = {
    "frozen": _frozen,
    "frames shuffled": shuffled,
    f"blurred over {_BLUR} pixels": _blurred,
    f"noise of {_NOISE:g} grey levels": _noised,
    "red and blue exchanged": _other_colours,
}


def _rendered(folder: Path, config: ClipSetConfig) -> list[Frames]:
    clips = render_clip_set(folder, config, 1)
    return [torch.from_numpy(clips.frames(row).copy()) for row in range(len(clips))]


def _features(network: VideoNetwork, films: Iterable[Frames]) -> Float[Tensor, "n d"]:
    return torch.stack([network(frames) for frames in films])


def _mean_consistency(network: ImageNetwork, films: Iterable[Frames]) -> float | None:
    values = []
    for frames in films:
        halves = network(frames).tensor_split(2)
        if (value := consistency([half.mean(dim=0) for half in halves])) is not None:
            values.append(value)
    return sum(values) / len(values) if values else None
