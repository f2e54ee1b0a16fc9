"""What `train`, `distill` and `adversarial` share: checked windows, clips, batches of latents, scenes of previews."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.build import DataConfig, DistillConfig, TrainAdversarialConfig, TrainConfig
from model.cli.fine_tuning import check_size
from model.curation.training_clips import clip_set, is_data_set
from model.data.clips import ClipSet, ClipSetConfig, MirroredClipSet
from model.data.synthetic.seeds import PREVIEW_SEED
from model.device import usable_device
from model.dit.context_parallel import check_split
from model.dit.video_dit import VideoDiTConfig
from model.evaluation.oracle import OracleScenes
from model.evaluation.preview import preview_scenes
from model.pretrained.original_files import num_stored
from model.text.encoder import TextEncoder
from model.text.stored import StoredTextEncoder, store_embeddings
from model.text.umt5 import umt5_dtype, umt5_fingerprint
from model.training import distributed
from model.training.latent_set import LatentBatches, channel_weights, encode_clip_set, encoder_fingerprint
from model.training.latent_shards import ShardedLatentBatches, ShardIndex
from model.training.windows import WindowConfig
from model.vae.video_vae import VideoVAE
from model.world.config import TextEncoderConfig, WorldConfig
from model.world.load import build_text_encoder
from model.world.open.memory_need import check_memory


def check_windows(config: WindowConfig, clips: ClipSetConfig) -> None:
    """Raises ValueError if a step takes longer windows than the clips are."""
    if config.longest_window > clips.num_latents:
        raise ValueError(
            f"context_shares, num_new: expected windows of at most {clips.num_latents} latent frames "
            f"(data.clips.num_latents), got {config.longest_window}; {_shorter_windows(config, clips.num_latents)}"
        )


def check_tokens(num_processes: int, dit: VideoDiTConfig, vae: VideoVAE, height: int, width: int) -> None:
    """Raises ValueError unless so many processes can share windows of this size in pixels."""
    _, ph, pw = (size * vae.spatial_stride for size in dit.patch_size)
    check_split(num_processes, dit.num_heads, dit.camera_injection, (height // ph) * (width // pw))


def _shorter_windows(config: WindowConfig, num_latents: int) -> str:
    """Which settings make the windows short enough."""
    shares = {
        n: share if max(n, 1) + config.num_new <= num_latents else 0.0 for n, share in config.context_shares.items()
    }
    if not any(shares.values()):
        return "give longer clips"
    named = ",".join(f"{n}:{share:g}" for n, share in shares.items())
    is_extended = any(share for n, share in shares.items() if n > 1)
    memory = " diffusion.memory_latents=0" if config.memory_latents and not is_extended else ""
    return f"give longer clips, or diffusion.context_shares={{{named}}}{memory}"


def held_out_scenes(
    config: TrainConfig | DistillConfig | TrainAdversarialConfig, clips: ClipSetConfig, num_new: int
) -> OracleScenes | None:
    """The preview's scenes: two of the world's clips long, of seeds or films not trained on; None if there are none.

    Raises:
        ValueError: `data.held_out` is no data set of films.
    """
    source = config.data.held_out
    if source is None and config.data.shards:
        return None
    if source is not None and not is_data_set(Path(source)):
        raise ValueError(f"data.held_out: expected a data set of model.cli.curate, found no manifest.jsonl in {source}")
    held_out = dataclasses.replace(clips, num_latents=1 + 2 * num_new, first_seed=PREVIEW_SEED)
    folder = config.data.source if source is None else Path(source)
    return preview_scenes(folder, held_out, config.num_preview_scenes)


def encoded_clips(data: DataConfig, vae: VideoVAE, world: WorldConfig | None) -> tuple[ClipSet, Tensor]:
    """The clips, rendered if need be, and their latents `[n c f h w]`; raises as `check_size` if a world is given."""
    with distributed.local_main_first():
        clips = clip_set(data.source, data.clips, data.num_workers, render=data.is_rendered)
        if world is not None:
            check_size(clips.config, world)
        if data.mirror:
            clips = MirroredClipSet(clips.folder, len(clips))
        clips.poses = with_random_units(clips.poses, clips.seeds, data.scale_spread)
        return clips, encode_clip_set(clips, vae)


def with_random_units(poses: Float[Tensor, "n f 4 4"], seeds: Sequence[int], spread: float) -> Float[Tensor, "n f 4 4"]:
    """Paths whose translations are multiplied by a factor for each scene, from 1 / `spread` to `spread`."""
    if spread == 1:
        return poses
    exponents = [2 * np.random.default_rng([0x5CA1E, seed]).random() - 1 for seed in seeds]
    factors = spread ** torch.tensor(exponents, dtype=poses.dtype)
    scaled = poses.clone()
    scaled[..., :3, 3] *= factors[:, None, None]
    return scaled


def latent_batches(
    config: TrainConfig | DistillConfig, clips: ClipSet, latents: Tensor, vae: VideoVAE, text_encoder: TextEncoder
) -> tuple[LatentBatches, Tensor]:
    """This process's batches from all clips' `latents` `[n c f h w]`, and the weight `[c]` of each channel's error."""
    batches = LatentBatches(
        clips,
        latents,
        text_encoder,
        batch_size=config.training.batch_size * config.diffusion.single_latent_rows,
        labelled_share=config.diffusion.labelled_share,
        seed=config.seed,
        micro_batches=config.training.fit.accumulation,
        rank=config.training.fit.data_rank,
        world_size=config.training.fit.data_processes,
        device=next(vae.parameters()).device,
    )
    return batches, channel_weights(clips, vae, latents, config.diffusion.channel_weight_power)


@dataclass(frozen=True)
class ShardedData:
    """Data that were encoded before: batches of this process, what its clips are like, previews' scenes and texts."""

    batches: ShardedLatentBatches
    clips: ClipSetConfig
    scenes: OracleScenes | None
    text_encoder: TextEncoder


def sharded_data(
    config: TrainConfig | DistillConfig,
    base: str | None,
    dit: VideoDiTConfig,
    vae: VideoVAE,
    text: TextEncoderConfig,
    device: torch.device,
) -> ShardedData:
    """The data of `data.shards`, whose held-out scenes `data.held_out` has. Raises as `open_shards`.

    Args:
        config: The command's settings.
        base: The open base, or a world that was trained from one; None: another world, which is refused.
        dit: The network's shape, whose windows processes may share.
        vae: The base's.
        text: The base's text encoder.
        device: Where batches are made.
    """
    shards = open_shards(config, base, encoder_fingerprint(vae), text, device)
    for index in shards.indices:
        check_tokens(config.training.fit.context_parallel, dit, vae, index.height, index.width)
    clips = dataclasses.replace(config.data.clips, horizontal_fov_deg=shards.indices[0].horizontal_fov_deg)
    with distributed.local_main_first():  # held-out films are decoded once
        scenes = held_out_scenes(config, clips, config.diffusion.num_new)
    text_encoder = training_text_encoder(text, scenes.captions if scenes else [], Path(config.out), config.device)
    return ShardedData(shards, clips, scenes, text_encoder)


def open_shards(
    config: TrainConfig | DistillConfig, base: str | None, vae: str, text: TextEncoderConfig, device: torch.device
) -> ShardedLatentBatches:
    """The batches of this process from `data.shards`, which the base must have encoded.

    Args:
        config: The command's settings.
        base: See `sharded_data`.
        vae: Fingerprint of the base's encoder.
        text: The base's text encoder.
        device: Where batches are made.

    Raises:
        FileNotFoundError: A set is not there, or was not finished.
        ValueError: A set is of another base, rate or size, or too short; or a setting has no effect.
    """
    clips, longest = config.data.clips, config.diffusion.longest_window
    if base is None or config.diffusion.channel_weight_power or config.diffusion.single_latent_rows > 1:
        raise ValueError(
            "data.shards: expected an open base, or a world that was trained from one, with "
            "diffusion.channel_weight_power=0 and single_latent_rows=1; other worlds read data.folder"
        )
    text_name = umt5_fingerprint(Path(text.folder))

    def check(source: str, index: ShardIndex) -> None:
        if (index.vae, index.text) != (vae, text_name):
            raise ValueError(f"data.shards: {source}: expected clips encoded by {base}, got another base's; "
                             "encode them again")  # fmt: skip
        if index.fps != clips.fps:
            raise ValueError(f"data.shards: {source}: expected {clips.fps:g} frames a second (data.clips.fps), got "
                             f"{index.fps:g}")  # fmt: skip
        if index.num_latents < longest:
            raise ValueError(f"data.shards: {source}: expected clips of {longest} latent frames or more, the longest "
                             f"window, got {index.num_latents}")  # fmt: skip

    batches = ShardedLatentBatches(
        config.data.shards,
        config.data.weights,
        batch_size=config.training.batch_size,
        labelled_share=config.diffusion.labelled_share,
        seed=config.seed,
        micro_batches=config.training.fit.accumulation,
        rank=config.training.fit.data_rank,
        world_size=config.training.fit.data_processes,
        device=device,
        check=check,
    )
    sizes = sorted({(index.height, index.width) for index in batches.indices})
    if (clips.height, clips.width) not in sizes:
        raise ValueError(
            f"data.clips.height, data.clips.width: expected one of {sizes}, those of data.shards, got "
            f"{clips.height}x{clips.width}; the world is flown at that size"
        )
    return batches


def training_text_encoder(config: TextEncoderConfig, prompts: Iterable[str], folder: Path, device: str) -> TextEncoder:
    """The text encoder of a world in training, for these prompts and the empty one.

    UMT5 is larger than most trained networks, so only its embeddings of the prompts are loaded: they are made once and
    kept in `folder`/text.
    """
    if config.kind != "umt5":
        return build_text_encoder(config, Path("."))
    pipeline = Path(config.folder)
    store = folder / "text" / f"{umt5_fingerprint(pipeline)}_{config.num_tokens}"
    with distributed.local_main_first():
        store_embeddings(prompts, store, lambda: _umt5(config, pipeline, device))
    torch.cuda.empty_cache()  # gigabytes, which another process of this command may need
    return StoredTextEncoder(store, config.dim, config.num_tokens)


def _umt5(config: TextEncoderConfig, pipeline: Path, device: str) -> TextEncoder:
    """Raises ValueError, before a weight is read, if the device has too little memory."""
    place = usable_device(device)
    needs = {"text encoder": num_stored(pipeline / "text_encoder") * umt5_dtype(place).itemsize}
    check_memory(place, needs, "run the command with device=cpu until the captions are embedded, which is done once")
    return build_text_encoder(config, pipeline, device)
