"""Latents and embeddings of clips in tar files of WebDataset's format, read from a disk or by URL.

A folder, or an address such as `s3://bucket/name` (any that fsspec opens), holds `index.json` and `latents_00000.tar`,
in which each clip is `KEY.safetensors` (latents, c2w, intrinsics, text) and `KEY.json` (caption, labelled). One process
needs a few tar files in memory at a time, however many there are.

Source of the format: https://github.com/webdataset/webdataset. The reader is ours: WebDataset's own reader streams, and
cannot resume in the middle of an epoch at the same clip.
"""

import io
import json
import posixpath
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from model.fingerprint import fingerprint
from model.training.state import generator_for
from model.training.windows import LatentBatch
from model.whole_file import whole_file, write_text

INDEX_FILE = "index.json"
_MIXED_FILES = 8  # clips are shuffled over this many tar files at a time, which are in memory


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Describes a set of shards.

    Attributes:
        vae: Fingerprint of the encoder of the latents.
        text: Fingerprint of the text encoder.
        height: Of the clips, in pixels.
        width: Of the clips, in pixels.
        fps: Frames a second.
        num_latents: Latent frames of each clip.
        num_tokens: Of a text.
        horizontal_fov_deg: The clips' median.
        sizes: Clips in each tar file.
        captions: Some of the captions.
    """

    vae: str
    text: str
    height: int
    width: int
    fps: float
    num_latents: int
    num_tokens: int
    horizontal_fov_deg: float
    sizes: list[int]
    captions: list[str] = field(default_factory=list)


def shard_name(number: int) -> str:
    """The name of a tar file."""
    return f"latents_{number:05d}.tar"


def write_shard(path: Path, clips: Sequence[tuple[str, dict[str, Tensor], dict[str, Any]]]) -> None:
    """Writes clips (key, tensors, facts for JSON), whole or not at all; the same clips make the same bytes."""
    with whole_file(path) as partial, tarfile.open(partial, "w") as archive:
        for key, tensors, facts in clips:
            packed = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            for ending, data in (("safetensors", packed), ("json", json.dumps(facts).encode())):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def write_index(folder: Path, index: ShardIndex) -> None:
    """Writes the index, last of all files: without it the folder is not read."""
    write_text(folder / INDEX_FILE, json.dumps(asdict(index), indent=1))


def read_index(source: str) -> ShardIndex:
    """The index of a folder or an address.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged.
    """
    place = posixpath.join(source, INDEX_FILE)
    try:
        values = json.loads(_bytes_of(place))
        return ShardIndex(**values)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"data.shards: expected a folder or address of model.cli.encode, found no {place}; finish encoding first"
        ) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.shards: {place}: expected an index of model.cli.encode, got {error!r:.200}") from error


def shards_fingerprint(sources: Sequence[str]) -> str:
    """Fingerprint of the sets' indices: with other clips a run would not continue with the same batches.

    Raises:
        FileNotFoundError, ValueError: As `read_index`.
    """
    return fingerprint(repr([read_index(source) for source in sources]))[:16]


def read_shard(place: str, size: int) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """The clips of a tar file: tensors and facts.

    Raises:
        ValueError: It is damaged, or holds another number of clips.
    """
    clips: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_bytes_of(place))) as archive:
            for member in archive:
                key, _, ending = member.name.rpartition(".")
                data = archive.extractfile(member)
                assert data is not None
                clips.setdefault(key, {})[ending] = (load if ending == "safetensors" else json.loads)(data.read())
        found = [(clip["safetensors"], clip["json"]) for clip in clips.values()]
    except (tarfile.TarError, safetensors.SafetensorError, ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"{place}: expected a tar file of model.cli.encode, got {error!r:.200}") from error
    if len(found) != size:
        raise ValueError(f"{place}: expected {size} clips, got {len(found)}; encode again, or copy the file again")
    return found


def _bytes_of(place: str) -> bytes:
    with fsspec.open(place, "rb") as file:
        data: bytes = file.read()
    return data


class ShardedLatentBatches:
    """Batches as a pure function of (seed, step, micro), like `LatentBatches`, from sets of shards.

    Every step takes its clips from one set, which is drawn by its weight: sets may differ in length and size (buckets).
    In each epoch of a set every clip comes once, files are in a new order, and clips are shuffled over a few files.

    Args:
        sources: Folders or addresses.
        weights: How often each set is drawn; none: in proportion to its number of clips.
        batch_size: Of this process.
        labelled_share: Share of the clips that keep their camera, always the same ones.
        seed: Of the order.
        micro_batches: Batches of a step on each process.
        rank: Of this process.
        world_size: Number of processes.
        device: Where batches are made.
        check: Called with each source and index; raises for one that cannot be used.

    Raises:
        FileNotFoundError, ValueError: As `read_index`, or the weights are not one positive number for each source.
    """

    def __init__(
        self,
        sources: Sequence[str],
        weights: Sequence[float] = (),
        *,
        batch_size: int,
        labelled_share: float = 0.8,
        seed: int = 0,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        check: Callable[[str, ShardIndex], None] = lambda source, index: None,
    ) -> None:
        self.sources, self.indices = list(sources), [read_index(source) for source in sources]
        for source, index in zip(self.sources, self.indices, strict=True):
            check(source, index)
        weights = list(weights) or [float(sum(index.sizes)) for index in self.indices]
        if len(weights) != len(self.sources) or not all(weight > 0 for weight in weights):
            raise ValueError(f"data.weights: expected a positive number for each of data.shards, got {weights}")
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.batch_size, self.labelled_share, self.seed = batch_size, labelled_share, seed
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size
        self.device = device or torch.device("cpu")
        self._choices = torch.empty(0, dtype=torch.long)
        # one more file of each set than are shuffled: the last file of those before
        self._shard = lru_cache(maxsize=(_MIXED_FILES + 1) * len(self.sources))(read_shard)
        self._order = lru_cache(maxsize=2 * len(self.sources))(self._make_order)

    def __len__(self) -> int:
        return sum(sum(index.sizes) for index in self.indices)

    def __call__(self, step: int, micro: int = 0) -> LatentBatch:
        source = int(self._chosen(step + 1)[step])
        earlier = int((self._choices[:step] == source).sum())
        per_step = self.batch_size * self.micro_batches * self.world_size
        first = earlier * per_step + (micro * self.world_size + self.rank) * self.batch_size
        return self._batch(source, [self._place(source, number) for number in range(first, first + self.batch_size)])

    def _chosen(self, num_steps: int) -> Tensor:
        """Which set each of the first steps takes."""
        while len(self._choices) < num_steps:
            draw = generator_for(torch.device("cpu"), self.seed, len(self._choices))
            more = torch.multinomial(self.weights, 1024, replacement=True, generator=draw)
            self._choices = torch.cat([self._choices, more])
        return self._choices

    def _place(self, source: int, number: int) -> tuple[int, int]:
        """File and position of the clip that is the set's `number`th, counted from its first epoch on."""
        epoch, position = divmod(number, sum(self.indices[source].sizes))
        return self._order(source, epoch)[position]

    def _make_order(self, source: int, epoch: int) -> list[tuple[int, int]]:
        draw, sizes = generator_for(torch.device("cpu"), self.seed, source, epoch), self.indices[source].sizes
        files, order = torch.randperm(len(sizes), generator=draw).tolist(), []
        for start in range(0, len(files), _MIXED_FILES):
            places = [(file, row) for file in files[start : start + _MIXED_FILES] for row in range(sizes[file])]
            order += [places[i] for i in torch.randperm(len(places), generator=draw).tolist()]
        return order

    def _batch(self, source: int, places: Sequence[tuple[int, int]]) -> LatentBatch:
        index, clips = self.indices[source], []
        for file, row in places:
            shard = self._shard(posixpath.join(self.sources[source], shard_name(file)), index.sizes[file])
            clips.append(shard[row])
        dim = clips[0][0]["text"].shape[-1]
        text = torch.zeros(len(clips), index.num_tokens, dim)
        for padded, (tensors, _) in zip(text, clips, strict=True):
            padded[: len(tensors["text"])] = tensors["text"].float()
        labelled = [
            facts["labelled"] and self._is_kept(source, *place) for place, (_, facts) in zip(places, clips, strict=True)
        ]
        stacked = {
            name: torch.stack([tensors[name] for tensors, _ in clips]).float()
            for name in ("latents", "c2w", "intrinsics")
        }
        batch = LatentBatch(**stacked, text=text, labelled=torch.tensor(labelled))
        return LatentBatch(*(tensor.to(self.device) for tensor in batch))

    def _is_kept(self, source: int, file: int, row: int) -> bool:
        """Whether a clip keeps its camera."""
        draw = int(fingerprint(repr((self.seed, source, file, row)))[:8], 16)
        return draw < self.labelled_share * 2**32
