"""Latents of a clip set, encoded once, and the batches that joint training draws from them."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from model.data.clips import ClipSet
from model.data.video_io import to_float
from model.fingerprint import fingerprint
from model.text.encoder import TextEncoder
from model.text.stored import StoredTextEncoder
from model.training.windows import LatentBatch
from model.vae.video_vae import VideoVAE
from model.whole_file import whole_file


def encoder_fingerprint(vae: VideoVAE) -> str:
    """A short name of the encoder's exact weights: latents of another VAE are never mistaken for its own."""
    statistics = repr((vae.config.latents_mean, vae.config.latents_std))
    decoder = ("decoder.", "from_latents.", "linear_path.decode")
    return _of_tensors(statistics, {n: t for n, t in vae.state_dict().items() if not n.startswith(decoder)})


def weights_fingerprint(module: nn.Module) -> str:
    """A short name of all of a network's exact weights."""
    return _of_tensors("", module.state_dict())


def clips_fingerprint(clips: ClipSet) -> str:
    """A short name of these clips, by all that is known of them without reading a frame."""
    facts = repr((clips.captions, clips.kinds, clips.seeds, clips.labelled.tolist()))
    return fingerprint(facts, clips.poses, clips.intrinsics)[:12]


def _of_tensors(start: str, tensors: Mapping[str, Tensor]) -> str:
    return fingerprint(start, *(part for item in sorted(tensors.items()) for part in item))[:12]


def encode_clip_set(clips: ClipSet, vae: VideoVAE, batch_size: int = 8) -> Float[Tensor, "n c f h w"]:
    """Normalised latents of every clip, kept beside the clips as float16 (their error is far below the VAE's own).

    Every batch is saved as soon as it is encoded, so that a stopped encoding can continue. Large clips are encoded in
    smaller batches than `batch_size`.
    """
    batch_size = min(batch_size, vae.config.latents_at_once(1, clips.config.height, clips.config.width))
    path = clips.folder / f"latents_{encoder_fingerprint(vae)}_{clips.name}.npy"
    if not path.exists():
        parts = path.with_suffix(f".parts_of_{batch_size}")
        batches = range(-(-len(clips) // batch_size))
        for index in tqdm(batches, desc="encoding clips"):
            part = parts / f"{index:06d}.npy"
            if not part.exists():
                rows = range(index * batch_size, min((index + 1) * batch_size, len(clips)))
                _encode_rows(clips, rows, vae, part)
        with whole_file(path) as partial:
            np.save(partial, np.concatenate([np.load(parts / f"{index:06d}.npy") for index in batches]))
        shutil.rmtree(parts)
    return torch.from_numpy(np.load(path))


@torch.inference_mode()
def _encode_rows(clips: ClipSet, rows: range, vae: VideoVAE, part: Path) -> None:
    """Writes the latents of some clips."""
    frames = torch.from_numpy(np.stack([clips.frames(row) for row in rows]))
    latents = vae.encode(to_float(frames.to(next(vae.parameters()).device))).half().cpu()
    with whole_file(part) as partial:
        np.save(partial, latents.numpy())


def channel_weights(clips: ClipSet, vae: VideoVAE, latents: Float[Tensor, "n c f h w"], power: float) -> Tensor:
    """How much each latent channel matters in pixels, `[c]`, kept beside the clips; see `measure_channels`."""
    if power == 0:
        return torch.ones(latents.shape[1])
    path = clips.folder / f"channels_{weights_fingerprint(vae)}_{clips.name}.npy"
    if not path.exists():
        with whole_file(path) as partial:
            np.save(partial, measure_channels(vae, latents[:8].float()).numpy())
    weights = torch.from_numpy(np.load(path)).pow(power)
    return weights / weights.mean()


@torch.no_grad()
def measure_channels(vae: VideoVAE, latents: Float[Tensor, "b c f h w"], size: float = 0.1) -> Float[Tensor, " c"]:
    """The decoder's mean squared response to noise of standard deviation `size` in one channel at a time.

    Source: ours, because a VAE that starts from whitened principal components gives the same variance to channels of
    very different importance. As weights of the loss, power 1 would give the error in pixels, power 0 the plain loss.
    """
    device = next(vae.parameters()).device
    latents = latents.to(device)
    plain = vae.decode(latents)
    answers = []
    for channel in range(latents.shape[1]):
        moved = latents.clone()
        generator = torch.Generator(device).manual_seed(channel)
        noise = torch.empty_like(moved[:, channel]).normal_(generator=generator)
        moved[:, channel] += size * noise
        answers.append((vae.decode(moved) - plain).square().mean())
    return torch.stack(answers).cpu()


class TextTable:
    """The embedded caption of every clip: all in memory, on `device`, except those that are stored on disk."""

    def __init__(self, text_encoder: TextEncoder, captions: Sequence[str], device: torch.device) -> None:
        self.device, self.captions = device, captions
        self.stored = text_encoder if isinstance(text_encoder, StoredTextEncoder) else None
        if self.stored is None:
            known = sorted(set(captions))
            self.table = text_encoder.encode(known).half().to(device)
            position = {caption: i for i, caption in enumerate(known)}
            self.index = torch.tensor([position[caption] for caption in captions], device=device)

    def take(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n d"]:
        """The embeddings of these clips' captions, float32."""
        if self.stored is None:
            return self.table[self.index[rows]].float()
        return self.stored.encode([self.captions[row] for row in rows.tolist()]).to(self.device)


class LatentBatches:
    """Batches as a pure function of (seed, step, micro): an interrupted run resumes with the very same ones.

    Every epoch is a new permutation, or several of them if a step takes more clips than there are. `labelled_share` of
    the clips (4 : 1, the paper's Sec. 3.3) keep their camera, always the same ones; the others, with all clips that
    have no camera, train as unlabelled video. All data is in memory, on `device` (that of `latents` by default).
    """

    def __init__(
        self,
        clips: ClipSet,
        latents: Float[Tensor, "n c f h w"],
        text_encoder: TextEncoder,
        *,
        batch_size: int,
        labelled_share: float = 0.8,
        seed: int = 0,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        device = device or latents.device
        self.latents, self.poses = latents.to(device), clips.poses.to(device)
        self.text = TextTable(text_encoder, clips.captions, device)
        self.intrinsics = clips.intrinsics.to(device)
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(20 + seed))
        order = order[torch.argsort(~clips.labelled[order], stable=True)]  # those with a camera first
        self.labelled = torch.zeros(len(clips), dtype=torch.bool)
        self.labelled[order[: round(labelled_share * len(clips))]] = True
        self.labelled = (self.labelled & clips.labelled).to(device)
        self.batch_size, self.seed, self.micro_batches = batch_size, seed, micro_batches
        self.rank, self.world_size = rank, world_size
        self._epoch = (-1, torch.empty(0))

    def indices(self, step: int, micro: int = 0) -> Tensor:
        """Which clips this rank sees at (step, micro)."""
        per_step = self.batch_size * self.micro_batches * self.world_size
        num_rounds = -(-per_step // len(self.poses))  # 1, unless the set is smaller than what a step takes
        steps_per_epoch = num_rounds * len(self.poses) // per_step
        epoch, position = divmod(step, steps_per_epoch)
        if self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(hash((self.seed, epoch)) % 2**62)
            rounds = [torch.randperm(len(self.poses), generator=generator) for _ in range(num_rounds)]
            self._epoch = (epoch, torch.cat(rounds))
        first = position * per_step + (micro * self.world_size + self.rank) * self.batch_size
        return self._epoch[1][first : first + self.batch_size]

    def __call__(self, step: int, micro: int = 0) -> LatentBatch:
        return self.take(self.indices(step, micro))

    def take(self, rows: Int[Tensor, " b"]) -> LatentBatch:
        """These clips as a batch."""
        rows = rows.to(self.latents.device)
        return LatentBatch(
            latents=self.latents[rows].float(),
            c2w=self.poses[rows],
            intrinsics=self.intrinsics[rows],
            text=self.text.take(rows),
            labelled=self.labelled[rows],
        )
