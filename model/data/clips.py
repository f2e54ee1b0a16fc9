"""Clip sets: clips of one size and length, rendered or decoded once, kept as shards that training maps into memory.

A folder holds `clip_set.json` (how it was rendered) and, per shard, `frames_00000.npy` (n f h w 3), `poses_00000.npy`
(n latents 4 4, first pose = identity) and `records_00000.json` (seed, caption, kind of motion of every clip).
"""

import dataclasses
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from model.data.synthetic.captions import caption
from model.data.synthetic.renderer import render_frames
from model.data.synthetic.scene import sample_scene, static_scene
from model.data.synthetic.seeds import TRAINING_SEED
from model.data.synthetic.trajectories import PATHS, sample_trajectory
from model.geometry import se3
from model.geometry.camera import intrinsics_from_fov
from model.geometry.trajectory import CameraTrajectory
from model.parent_watch import exit_with
from model.whole_file import whole_file, write_text

FRAMES_PER_LATENT = 4


@dataclass(kw_only=True)
class ClipSetConfig:
    """What to render. Training seeds start far above those that people and evaluations use (0, 1, 2 ...).

    Attributes:
        moving_objects: False: the scenes are rendered without their moving objects.
        paths: `balanced` over all moves, or `forward`: most moves go straight ahead, as in raw films.

    Raises:
        ValueError: `paths` is another word.
    """

    num_clips: int = 4096
    num_latents: int = 9
    height: int = 48
    width: int = 80
    fps: float = 12.0
    horizontal_fov_deg: float = 75.0
    style: str = "soft"
    first_seed: int = TRAINING_SEED
    shard_size: int = 32
    moving_objects: bool = True
    paths: str = "balanced"

    def __post_init__(self) -> None:
        if self.paths not in PATHS:
            raise ValueError(f"data.clips.paths: expected one of {list(PATHS)}, got {self.paths!r}")

    @property
    def num_frames(self) -> int:
        return (self.num_latents - 1) * FRAMES_PER_LATENT + 1

    @property
    def num_shards(self) -> int:
        """Files of frames, poses and records."""
        return -(-self.num_clips // self.shard_size)

    def intrinsics(self) -> Float[Tensor, "4"]:
        """The lens of every clip."""
        return intrinsics_from_fov(float(np.deg2rad(self.horizontal_fov_deg)), self.height, self.width)


@dataclass(frozen=True)
class RenderedRecord:
    """One clip: frames `f h w 3` uint8, poses `latents 4 4` relative to the first, caption, kind of motion, seed."""

    frames: UInt8[np.ndarray, "f h w 3"]
    poses: Float[np.ndarray, "latents 4 4"]
    caption: str
    kind: str
    seed: int


def render_record(config: ClipSetConfig, seed: int) -> RenderedRecord:
    """Scene `seed` along its own trajectory, from time 0."""
    scene = sample_scene(seed, style=config.style)
    trajectory, kind = sample_trajectory(scene, seed, config.num_latents, config.paths)
    if not config.moving_objects:
        scene = static_scene(scene)
    frames = trajectory.upsample(FRAMES_PER_LATENT)
    times = torch.arange(config.num_frames) / config.fps
    pixels = render_frames(scene, frames.c2w, config.intrinsics(), times, config.height, config.width)
    poses = _from_identity(trajectory)
    return RenderedRecord(pixels.numpy(), poses.numpy(), caption(scene), kind, seed)


def record_path(config: ClipSetConfig, seed: int) -> tuple[Float[Tensor, "latents 4 4"], str]:
    """Poses and kind of motion of `render_record`, which is not rendered."""
    scene = sample_scene(seed, style=config.style)
    trajectory, kind = sample_trajectory(scene, seed, config.num_latents, config.paths)
    return _from_identity(trajectory), kind


def _from_identity(path: CameraTrajectory) -> Float[Tensor, "latents 4 4"]:
    return se3.relative(path.c2w[:1], path.c2w).float()


def _render_shard(folder: str, config: ClipSetConfig, shard: int) -> None:
    torch.set_num_threads(1)
    rows = range(config.num_clips)[shard * config.shard_size : (shard + 1) * config.shard_size]
    records = [render_record(config, config.first_seed + row) for row in rows]
    save_array(Path(folder) / f"frames_{shard:05d}.npy", np.stack([r.frames for r in records]))
    save_array(Path(folder) / f"poses_{shard:05d}.npy", np.stack([r.poses for r in records]))
    # written last: a shard without records is unfinished and is rendered again
    text = json.dumps([{"seed": r.seed, "caption": r.caption, "kind": r.kind} for r in records])
    write_text(Path(folder) / f"records_{shard:05d}.json", text)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an `.npy`, whole or not at all."""
    with whole_file(path) as partial:
        np.save(partial, array)


def render_clip_set(folder: Path, config: ClipSetConfig, num_workers: int = 2) -> "ClipSet":
    """Renders the missing clips of a set (resumable: finished shards are kept) and opens its first `num_clips`.

    A set that holds more clips does not change; a set that holds fewer grows.

    Raises:
        ValueError: the folder holds a clip set that was rendered with another configuration, or `num_clips` < 1.
    """
    if config.num_clips < 1:
        raise ValueError(f"data.clips.num_clips: expected at least 1, got {config.num_clips}")
    whole = config
    if (folder / "clip_set.json").exists():
        held = _description(folder)
        if held != dataclasses.replace(config, num_clips=held.num_clips):
            raise ValueError(
                f"data.render_into: expected a clip set of {config}, got {held} in {folder}; name another folder"
            )
        whole = max(held, config, key=lambda each: each.num_clips)
    if whole is config:  # a new set, or one that grows
        write_text(folder / "clip_set.json", json.dumps(dataclasses.asdict(config), indent=1))
    missing = [shard for shard in range(config.num_shards) if not _is_whole(folder, whole, shard)]
    if missing:
        _render_shards(folder, whole, missing, num_workers)
    return ClipSet(folder, config.num_clips)


def _render_shards(folder: Path, config: ClipSetConfig, shards: list[int], num_workers: int) -> None:
    """Renders shards in worker processes, which end with this process."""
    context = get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=exit_with, initargs=(os.getpid(),)) as pool:
        jobs = [pool.submit(_render_shard, str(folder), config, shard) for shard in shards]
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="rendering clips", unit="shard"):
                job.result()
        except BaseException:  # also Ctrl-C: otherwise the pool would first finish all waiting jobs
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_whole(folder: Path, config: ClipSetConfig, shard: int) -> bool:
    """Whether a shard is finished; the short last shard of a set that has grown since is not."""
    records = folder / f"records_{shard:05d}.json"
    expected = min(config.shard_size, config.num_clips - shard * config.shard_size)
    return records.exists() and len(json.loads(records.read_text())) >= expected


def open_clip_set(folder: Path, config: ClipSetConfig) -> "ClipSet":
    """Opens at most `config.num_clips` clips of a set that was rendered before; nothing is rendered or written.

    Raises:
        FileNotFoundError: the folder holds no clip set, or one whose rendering was not finished.
        ValueError: its clips have another size, rate or length.
    """
    held = _description(folder)
    for name in ("height", "width", "fps", "num_latents"):
        if getattr(held, name) != getattr(config, name):
            raise ValueError(
                f"data.clips.{name}: expected {getattr(held, name)}, that of the clips in {folder}, "
                f"got {getattr(config, name)}"
            )
    opened = dataclasses.replace(held, num_clips=min(config.num_clips, held.num_clips))
    for shard in range(opened.num_shards):
        if not _is_whole(folder, held, shard):
            raise FileNotFoundError(
                f"data.folder: expected {opened.num_clips} clips in {folder}, its part {shard} is missing; finish "
                f"rendering with data.folder=null data.render_into={folder}"
            )
    return ClipSet(folder, opened.num_clips)


def _description(folder: Path) -> ClipSetConfig:
    description = folder / "clip_set.json"
    if not description.exists():
        raise FileNotFoundError(f"data.folder: expected a clip set, found no {description}; render one first")
    return ClipSetConfig(**json.loads(description.read_text()))


class ClipSet:
    """The first `num_clips` of a folder's clips, by default all; their frames are mapped into memory.

    Raises:
        FileNotFoundError: the folder holds no clip set.
        ValueError: the folder holds fewer clips.
    """

    def __init__(self, folder: Path, num_clips: int | None = None) -> None:
        self.folder = folder
        held = _description(folder)
        number = held.num_clips if num_clips is None else num_clips
        if not 0 < number <= held.num_clips:
            raise ValueError(f"num_clips: expected 1 to {held.num_clips}, what {folder} holds, got {number}")
        self.config = dataclasses.replace(held, num_clips=number)
        shards = range(self.config.num_shards)
        self.shards: list[NDArray[np.uint8]] = [np.load(folder / f"frames_{s:05d}.npy", mmap_mode="r") for s in shards]
        poses = np.concatenate([np.load(folder / f"poses_{s:05d}.npy") for s in shards])
        self.poses = torch.from_numpy(poses[:number])
        lenses = [np.load(path) for path in sorted(folder.glob("intrinsics_*.npy"))]  # only of clips from real films
        one_lens = self.config.intrinsics().expand(len(self.poses), 4)
        self.intrinsics = torch.from_numpy(np.concatenate(lenses)[:number]) if lenses else one_lens
        records = [r for s in shards for r in json.loads((folder / f"records_{s:05d}.json").read_text())][:number]
        self.captions: list[str] = [r["caption"] for r in records]
        self.kinds: list[str] = [r["kind"] for r in records]
        self.seeds: list[int] = [r["seed"] for r in records]
        self.labelled = torch.tensor([bool(r.get("labelled", True)) for r in records])

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def name(self) -> str:
        """A name that differs between the sets that can be opened from one folder."""
        return str(len(self))

    def frames(self, index: int) -> UInt8[np.ndarray, "f h w 3"]:
        """The frames of clip `index` (a view of the file)."""
        shard, row = divmod(index, self.config.shard_size)
        return self.shards[shard][row]


class MirroredClipSet(ClipSet):
    """A clip set, followed by the mirror images of its clips, which need no rendering.

    In rendered scenes left and right are alike, and no caption names them; the user decides whether real films may be
    mirrored. `num_clips` counts the clips without their mirror images.
    """

    def __init__(self, folder: Path, num_clips: int | None = None) -> None:
        super().__init__(folder, num_clips)
        self._num_rendered = len(self.captions)
        mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
        self.poses = torch.cat([self.poses, mirror @ self.poses @ mirror])
        lenses = self.intrinsics.clone()
        lenses[:, 2] = 1 - lenses[:, 2]
        self.intrinsics = torch.cat([self.intrinsics, lenses])
        self.captions, self.seeds = 2 * self.captions, 2 * self.seeds
        self.kinds = self.kinds + [_mirrored_kind(kind) for kind in self.kinds]
        self.labelled = self.labelled.repeat(2)

    @property
    def name(self) -> str:
        return f"{self._num_rendered}_mirrored"

    def frames(self, index: int) -> UInt8[np.ndarray, "f h w 3"]:
        rendered = super().frames(index % self._num_rendered)
        return rendered if index < self._num_rendered else rendered[:, :, ::-1]


def _mirrored_kind(kind: str) -> str:
    sides = {"left": "right", "right": "left"}
    return "_".join(sides.get(word, word) for word in kind.split("_"))
