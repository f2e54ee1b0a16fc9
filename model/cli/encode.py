"""`python -m model.cli.encode base=WAN_FOLDER data.folder=DATASET out=SHARDS`: latents and embeddings, as tar files."""

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from omegaconf import MISSING
from tqdm import tqdm

from configs.command_line import hydra_command
from model import settings_file
from model.build import DataConfig
from model.cli.joint_training import training_text_encoder
from model.curation.training_clips import clip_set
from model.curation.workers import run_all
from model.data.clips import ClipSet
from model.data.video_io import to_float
from model.device import usable_device
from model.file_lock import lock_folder
from model.pretrained.diffusers_folder import read_config
from model.pretrained.wan import check_base
from model.pretrained.wan_dit import dit_config_from_diffusers
from model.text.stored import StoredTextEncoder
from model.text.umt5 import umt5_fingerprint
from model.training.latent_set import encoder_fingerprint
from model.training.latent_shards import ShardIndex, shard_name, write_index, write_shard
from model.vae.video_vae import VideoVAE
from model.world.config import TextEncoderConfig
from model.world.networks import read_vae, read_world

_FREE = ("out", "device", "backend", "data.num_workers")


@dataclass(kw_only=True)
class EncodeConfig:
    """`python -m model.cli.encode`.

    Attributes:
        base: The open base whose VAE and text encoder are used.
        data: The clips; `data.num_workers` processes decode and encode them.
        out: Gets the tar files.
        backend: joblib's: loky, or ray for a cluster that sees the same disk.
        clips_per_file: Clips in each tar file.
        device: Of the networks.
    """

    base: str = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    out: str = MISSING
    backend: str = "loky"
    clips_per_file: int = 64
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ValueError for an empty file, or a setting that belongs to the training."""
        if self.data.mirror or self.data.scale_spread != 1 or self.data.shards:
            raise ValueError("data.mirror, data.scale_spread, data.shards: expected none, they have no effect here")
        if self.clips_per_file < 1:
            raise ValueError(f"clips_per_file: expected at least 1, got {self.clips_per_file}")


def encode(config: EncodeConfig) -> Path:
    """Encodes what is missing; returns the folder.

    Raises:
        FileNotFoundError: There is no such base, or there are no clips.
        ValueError: The base is not covered, or the folder was begun with other settings.
    """
    usable_device(config.device)
    base, out = check_base(config.base), Path(config.out)
    stored = read_world(base).text_encoder
    pipeline = (base / stored.folder).resolve()
    dim = dit_config_from_diffusers(read_config(base / "transformer")).text_dim
    text = TextEncoderConfig(kind=stored.kind, num_tokens=stored.num_tokens, dim=dim, folder=str(pipeline))
    clips = clip_set(config.data.source, config.data.clips, config.data.num_workers, render=config.data.is_rendered)
    vae, prompts = encoder_fingerprint(read_vae(base)), umt5_fingerprint(pipeline)
    made = {**asdict(config), "clips": clips.folder.name, "num_clips": len(clips), "vae": vae, "text": prompts}
    settings_file.keep_settings(out, made, free=_FREE, is_begun=any(out.glob("*.tar")))
    encoder = training_text_encoder(text, clips.captions, config.data.source, config.device)
    assert isinstance(encoder, StoredTextEncoder)
    write_index(out, _index(clips, vae, prompts, text.num_tokens, _write_files(config, clips, encoder)))
    return out


def _write_files(config: EncodeConfig, clips: ClipSet, encoder: StoredTextEncoder) -> list[int]:
    """Makes the tar files that are missing; returns the number of clips in each."""
    starts = range(0, len(clips), config.clips_per_file)
    sizes = [min(config.clips_per_file, len(clips) - start) for start in starts]
    same, out = (config.base, config.device, clips.folder, len(clips)), Path(config.out)
    jobs = [
        (out / shard_name(number), *same, range(start, start + size), encoder)
        for number, (start, size) in enumerate(zip(starts, sizes, strict=True))
        if not (out / shard_name(number)).exists()
    ]
    bar = tqdm(total=len(jobs), desc="encoding clips", unit="file")
    lost = run_all(encode_file, jobs, num_workers=config.data.num_workers, backend=config.backend, bar=bar)
    if lost:
        raise ValueError(
            f"data.num_workers: {len(lost)} files could not be made, the system ended their processes (memory?); give "
            "fewer workers, the same command goes on"
        )
    return sizes


def _index(clips: ClipSet, vae: str, text: str, num_tokens: int, sizes: list[int]) -> ShardIndex:
    found = clips.config
    return ShardIndex(
        vae=vae,
        text=text,
        height=found.height,
        width=found.width,
        fps=found.fps,
        num_latents=found.num_latents,
        num_tokens=num_tokens,
        horizontal_fov_deg=found.horizontal_fov_deg,
        sizes=sizes,
        captions=sorted(set(clips.captions[:256])),
    )


def encode_file(
    path: Path, base: str, device: str, folder: Path, num_clips: int, rows: range, text_encoder: StoredTextEncoder
) -> None:
    """Writes one tar file, of these clips of a clip set."""
    clips, found = ClipSet(folder, num_clips), []
    for row in rows:
        caption = clips.captions[row]
        embedding = text_encoder.encode([caption])[0]
        length = int(embedding.abs().amax(1).gt(0).sum())  # zeros come last
        tensors = {
            "latents": _latents(clips.frames(row), _vae(base, device), device),
            "c2w": clips.poses[row].clone(),
            "intrinsics": clips.intrinsics[row].clone(),
            "text": embedding[:length].half().clone(),
        }
        found.append((f"{row:09d}", tensors, {"caption": caption, "labelled": bool(clips.labelled[row])}))
    write_shard(path, found)


@torch.inference_mode()
def _latents(frames: np.ndarray, vae: VideoVAE, device: str) -> torch.Tensor:
    video = to_float(torch.from_numpy(np.array(frames))[None].to(device))
    return vae.encode(video)[0].half().cpu().clone()


@lru_cache(maxsize=1)
def _vae(base: str, device: str) -> VideoVAE:
    """Loaded once in each process."""
    return read_vae(Path(base)).requires_grad_(False).eval().to(device)


def run(config: EncodeConfig) -> None:
    """Runs the command line: `python -m model.cli.encode --help`."""
    with lock_folder(config.out):
        print(f"written: {encode(config)}")


main = hydra_command("configs", "encode", EncodeConfig, run)


if __name__ == "__main__":
    main()
