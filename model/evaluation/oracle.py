"""Oracle evaluation: a world gets the first frame of held-out scenes and is flown along their trajectories; the
renderer, or another world that is the truth, knows every true frame.

Source: ours, because the paper's metrics need SfM on generated frames and cannot see fidelity at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig, render_record
from model.evaluation.controls import first_frame_carried, time_stopped
from model.evaluation.truth import CameraTruth, SceneTruth
from model.evaluation.video_quality import psnr
from model.geometry.trajectory import CameraTrajectory
from model.world.protocol import WorldModel, abilities
from model.world.synthetic_world import SyntheticWorld


@runtime_checkable
class Autoencoder(Protocol):
    """The part of a VAE that the ceiling needs: frames -> latents -> frames."""

    def reconstruct(self, frames: UInt8[Tensor, "b f h w 3"]) -> UInt8[Tensor, "b f h w 3"]: ...


@dataclass(frozen=True)
class OracleScenes:
    """Held-out truth: frames `n f h w 3`, latent poses `n p 4 4` from identity, seeds, captions, kinds of motion.

    `with_caption`: the world gets the caption with the first frame, as in the paper's image-to-video. `true_world`: the
    world that the frames are from; None: they are rendered, and `truths` knows them.
    """

    frames: UInt8[Tensor, "n f h w 3"]
    poses: Float[Tensor, "n p 4 4"]
    intrinsics: Float[Tensor, "4"]
    seeds: list[int]
    captions: list[str]
    kinds: list[str]
    fps: float = 12.0
    style: str = "soft"
    with_caption: bool = False
    frames_per_pose: int = FRAMES_PER_LATENT
    true_world: WorldModel | None = None

    def is_truth(self, world: WorldModel) -> bool:
        """Whether a world knows the scenes by their seeds."""
        return isinstance(world, SyntheticWorld) if self.true_world is None else world is self.true_world

    def truths(self) -> list[SceneTruth]:
        """The renderer's knowledge of every rendered scene."""
        height, width = self.frames.shape[2:4]
        return [SceneTruth.of_seed(seed, self.intrinsics, height, width, self.fps, self.style) for seed in self.seeds]

    def frame_poses(self) -> Float[Tensor, "n f 4 4"]:
        """The commanded pose of every frame."""
        paths = [CameraTrajectory(poses, self.intrinsics.expand(len(poses), 4)) for poses in self.poses]
        return torch.stack([path.upsample(self.frames_per_pose).c2w for path in paths])


def render_oracle_scenes(config: ClipSetConfig, num_scenes: int) -> OracleScenes:
    """`num_scenes` scenes from `config.first_seed` on, each along its own trajectory."""
    records = [
        render_record(config, config.first_seed + i)
        for i in tqdm(range(num_scenes), desc="rendering the truth", unit="scene")
    ]
    return OracleScenes(
        frames=torch.stack([torch.from_numpy(r.frames) for r in records]),
        poses=torch.stack([torch.from_numpy(r.poses) for r in records]),
        intrinsics=config.intrinsics(),
        seeds=[r.seed for r in records],
        captions=[r.caption for r in records],
        kinds=[r.kind for r in records],
        fps=config.fps,
        style=config.style,
    )


def reconstruct(autoencoder: Autoencoder, scenes: OracleScenes, batch_size: int) -> UInt8[Tensor, "n f h w 3"]:
    """The true frames through the autoencoder."""
    parts = tqdm(scenes.frames.split(batch_size), desc="reconstructing", unit="batch")
    return torch.cat([autoencoder.reconstruct(part).cpu() for part in parts])


def fly(
    world: WorldModel, scenes: OracleScenes, poses: Float[Tensor, "n p 4 4"], batch_size: int, label: str
) -> UInt8[Tensor, "n f h w 3"]:
    """The frames that a world generates along `poses` from every scene's first frame, and caption if `with_caption`.

    The world that is the truth needs no first frame: the seed determines its scene, and it must reproduce the truth.

    Raises:
        ValueError: The world does not take the first frame, another lens or, if `with_caption`, the prompt.
    """
    per_clip = world.spec.poses_per_clip
    needs_image = not scenes.is_truth(world)
    takes_lens = "horizontal_fov_deg" in abilities(world)
    is_own_lens = torch.allclose(scenes.intrinsics, torch.tensor(world.spec.intrinsics), atol=1e-4)
    wanted = {"horizontal_fov_deg": not is_own_lens, "image": needs_image, "prompt": scenes.with_caption}
    needed = {name for name, is_wanted in wanted.items() if is_wanted}
    if missing := sorted(needed - abilities(world)):
        raise ValueError(
            f"world: expected one that is shown a scene by its {' and '.join(missing)}, got {type(world).__name__}, "
            "which has no use for that; compare another world, or leave out captions"
        )
    flown = []
    for begin in tqdm(range(0, len(poses), batch_size), desc=label, unit="batch"):
        rows = slice(begin, begin + batch_size)
        state, first = world.start(
            seeds=scenes.seeds[rows],
            prompts=scenes.captions[rows] if scenes.with_caption else None,
            images=scenes.frames[rows, 0] if needs_image else None,
            intrinsics=scenes.intrinsics.expand(len(scenes.seeds[rows]), 4) if takes_lens else None,
        )
        clips = [first]
        for pose in range(1, poses.shape[1], per_clip):
            state, frames = world.extend(state, poses[rows, pose : pose + per_clip])
            clips.append(frames)
        flown.append(torch.cat(clips, dim=1).cpu())
    return torch.cat(flown)


def _psnr_per_clip(
    frames: UInt8[Tensor, "n f h w 3"], truth: UInt8[Tensor, "n f h w 3"], frames_per_clip: int
) -> Float[Tensor, "n clips"]:
    clips = zip(*(film[:, 1:].split(frames_per_clip, dim=1) for film in (frames, truth)), strict=True)
    return torch.stack([psnr(ours, true) for ours, true in clips], dim=1)


def _still_pictures(truth: UInt8[Tensor, "n f h w 3"], frames_per_clip: int) -> dict[str, UInt8[Tensor, "n f h w 3"]]:
    """`hold`, `mean_frame` and `clip_mean` of `evaluate_oracle`."""
    means = [
        clip.float().mean(dim=1, keepdim=True).round().byte().expand_as(clip)
        for clip in truth[:, 1:].split(frames_per_clip, dim=1)
    ]
    return {
        "hold": truth[:, :1].expand_as(truth),
        "mean_frame": truth.float().mean(dim=(0, 1)).round().byte().expand_as(truth),
        "clip_mean": torch.cat([truth[:, :1], *means], dim=1),
    }


@dataclass(frozen=True)
class OracleResult:
    """PSNR in dB per scene and clip; frames are kept for pictures. Names of `psnr` are the rows of the table.

    `wrong` is None, and has no row, if there is only one scene: then there is no other trajectory.
    """

    psnr: dict[str, Float[Tensor, "n clips"]]
    generated: UInt8[Tensor, "n f h w 3"]
    wrong: UInt8[Tensor, "n f h w 3"] | None


def evaluate_oracle(
    world: WorldModel,
    autoencoder: Autoencoder | None,
    scenes: OracleScenes,
    *,
    truths: Sequence[CameraTruth] | None = None,
    batch_size: int = 16,
) -> OracleResult:
    """Flies the world through every scene, along its own trajectory and along another scene's, and compares:

    `generated`; `wrong_trajectory`, the control that shows whether the camera is followed (only with two scenes or
    more); `hold`, the first frame repeated; `mean_frame`, the average over all scenes' frames; `clip_mean`, the true
    clip's own average over time, which no predictor knows (the best of all still pictures); `vae`, the true clip
    through the autoencoder: the ceiling. With `truths`, two more from `model.evaluation.controls`: `carried`, the first
    frame warped by the true geometry, and `time_stopped`, the true scene in which nothing moves. If the world gets the
    captions, `without_caption` is `generated` without them.
    """
    truth = scenes.frames
    generated = fly(world, scenes, scenes.poses, batch_size, "flying")
    candidates, wrong = {"generated": generated}, None
    if scenes.with_caption:
        candidates["without_caption"] = fly(
            world, replace(scenes, with_caption=False), scenes.poses, batch_size, "flying, no caption"
        )
    if len(truth) > 1:
        wrong = fly(world, scenes, scenes.poses.roll(1, dims=0), batch_size, "flying another scene's trajectory")
        candidates["wrong_trajectory"] = wrong
    step = world.spec.frames_per_clip
    assert step == world.spec.poses_per_clip * scenes.frames_per_pose
    candidates |= _still_pictures(truth, step)
    if truths is not None:
        paths = list(zip(truths, scenes.frame_poses(), strict=True))
        stopped = [time_stopped(truth, path) for truth, path in tqdm(paths, desc="stopping the time", unit="scene")]
        carried = [first_frame_carried(t, f[0], path) for (t, path), f in zip(paths, truth, strict=True)]
        candidates |= {"time_stopped": torch.stack(stopped), "carried": torch.stack(carried)}
    if autoencoder is not None:
        candidates["vae"] = reconstruct(autoencoder, scenes, batch_size)
    scores = {name: _psnr_per_clip(frames, truth, step) for name, frames in candidates.items()}
    return OracleResult(scores, generated, wrong)
