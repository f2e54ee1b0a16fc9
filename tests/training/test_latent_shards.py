"""Shards of latents: the order is a function of the step, every clip comes once an epoch, other readers read them."""

import functools
import http.server
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import load

from model.training.latent_shards import (
    ShardedLatentBatches,
    ShardIndex,
    read_index,
    read_shard,
    shard_name,
    write_index,
    write_shard,
)


def write_set(folder: Path, sizes: list[int], num_latents: int = 3, height: int = 16) -> str:
    """Clips whose latents all are their number."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for file, size in enumerate(sizes):
        clips = []
        for _ in range(size):
            tensors = {
                "latents": torch.full((2, num_latents, height // 8, 2), float(number)).half(),
                "c2w": torch.eye(4).expand(num_latents, 4, 4).clone(),
                "intrinsics": torch.tensor([0.6, 1.0, 0.5, 0.5]),
                "text": torch.full((1 + number % 3, 4), float(number)).half(),
            }
            facts = {"caption": f"clip {number}", "labelled": number % 4 != 3}
            clips.append((f"{number:09d}", tensors, facts))
            number += 1
        write_shard(folder / shard_name(file), clips)
    described = {"vae": "a", "text": "b", "width": 16, "fps": 12.0, "num_tokens": 5, "horizontal_fov_deg": 75.0}
    write_index(folder, ShardIndex(**described, height=height, num_latents=num_latents, sizes=sizes))
    return str(folder)


def numbers(batches: ShardedLatentBatches, steps: range, micros: int = 1) -> list[int]:
    return [int(n) for step in steps for k in range(micros) for n in batches(step, k).latents[:, 0, 0, 0, 0]]


def test_every_clip_comes_once_an_epoch_in_a_new_order(tmp_path: Path) -> None:
    batches = ShardedLatentBatches([write_set(tmp_path, [4, 4, 4, 3])], batch_size=5, seed=3)
    first, second = numbers(batches, range(3)), numbers(batches, range(3, 6))
    assert sorted(first) == sorted(second) == list(range(15)) and first != second != sorted(second)


def test_a_resumed_run_sees_the_very_same_batches(tmp_path: Path) -> None:
    sources = [write_set(tmp_path / "a", [4] * 10), write_set(tmp_path / "b", [2, 2], num_latents=5)]
    whole = ShardedLatentBatches(sources, [1, 2], batch_size=2, seed=3)
    earlier = [whole(step) for step in range(1100)]
    resumed = ShardedLatentBatches(sources, [1, 2], batch_size=2, seed=3)
    for step in (1099, 41):
        for ours, theirs in zip(resumed(step), earlier[step], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_two_processes_and_micro_batches_share_what_one_would_take(tmp_path: Path) -> None:
    source = write_set(tmp_path, [4, 4, 4])
    together = [
        ShardedLatentBatches([source], batch_size=1, micro_batches=2, rank=rank, world_size=2) for rank in (0, 1)
    ]
    alone = ShardedLatentBatches([source], batch_size=4)
    for step in range(3):
        parts = [part for micro in range(2) for each in together for part in numbers_at(each, step, micro)]
        assert parts == numbers(alone, range(step, step + 1))


def numbers_at(batches: ShardedLatentBatches, step: int, micro: int) -> list[int]:
    return [int(n) for n in batches(step, micro).latents[:, 0, 0, 0, 0]]


def test_sets_come_by_their_weights_and_may_differ_in_length_and_shape(tmp_path: Path) -> None:
    sources = [write_set(tmp_path / "a", [4, 4]), write_set(tmp_path / "b", [4], num_latents=5, height=32)]
    batches = ShardedLatentBatches(sources, [1, 3], batch_size=2)
    shapes = Counter(tuple(batches(step).latents.shape[2:]) for step in range(400))
    assert set(shapes) == {(3, 2, 2), (5, 4, 2)} and shapes[5, 4, 2] == pytest.approx(300, abs=30)
    even = ShardedLatentBatches(sources, batch_size=2)  # two thirds of the clips are in the first
    assert sum(even(step).latents.shape[2] == 3 for step in range(400)) == pytest.approx(267, abs=35)


def test_texts_are_padded_and_cameras_kept_for_a_share_of_those_that_have_one(tmp_path: Path) -> None:
    source = write_set(tmp_path, [50] * 4)
    batch = ShardedLatentBatches([source], batch_size=200, labelled_share=0.6)(0)
    number = batch.latents[:, 0, 0, 0, 0].long()
    assert batch.text.shape == (200, 5, 4) and batch.text.dtype == torch.float32
    assert torch.equal((batch.text[..., 0] != 0).sum(1)[number > 0], (1 + number % 3)[number > 0])
    assert not batch.labelled[number % 4 == 3].any()
    assert batch.labelled.float().mean() == pytest.approx(0.75 * 0.6, abs=0.1)
    again = ShardedLatentBatches([source], batch_size=200, labelled_share=0.6, seed=0)(1)
    assert torch.equal(batch.labelled[number.argsort()], again.labelled[again.latents[:, 0, 0, 0, 0].argsort()])


def test_an_address_is_read_as_a_folder_is(tmp_path: Path) -> None:
    source = write_set(tmp_path, [3, 2])
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe(f"/bucket/set/{path.name}", path.read_bytes())
    compare_with_folder(source, "memory://bucket/set")
    memory.rm("/bucket", recursive=True)


@pytest.mark.slow
def test_an_address_over_http_is_read_as_a_folder_is(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    source = write_set(tmp_path / "set", [3, 2])
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        compare_with_folder(source, f"{address}/set")
        with pytest.raises(FileNotFoundError, match=r"^data.shards: expected .* found no http://.*/none/index.json"):
            read_index(f"{address}/none")
        server.shutdown()


@pytest.mark.slow
def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs, server_of = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    source = write_set(tmp_path / "set", [3, 2])
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in {**given, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.mkdir("bucket")
    store.put(source, "bucket/walks", recursive=True)
    compare_with_folder(source, "s3://bucket/walks")
    with pytest.raises(FileNotFoundError, match=r"^data.shards: expected .* found no s3://bucket/none/index.json"):
        read_index("s3://bucket/none")
    server.stop()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


def compare_with_folder(source: str, address: str) -> None:
    local, remote = (ShardedLatentBatches([each], batch_size=2) for each in (source, address))
    assert numbers(local, range(5)) == numbers(remote, range(5))


def test_webdataset_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write_set(tmp_path, [3])
    samples = list(webdataset.WebDataset(str(tmp_path / shard_name(0)), shardshuffle=False))
    assert [json.loads(sample["json"])["caption"] for sample in samples] == ["clip 0", "clip 1", "clip 2"]
    assert float(load(samples[2]["safetensors"])["latents"].mean()) == 2.0


def test_the_same_clips_make_the_same_bytes(tmp_path: Path) -> None:
    one, two = (Path(write_set(tmp_path / name, [3])) / shard_name(0) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^data.shards: expected .* found no .*index.json"):
        read_index(str(tmp_path))
    source = write_set(tmp_path / "set", [3])
    with pytest.raises(ValueError, match=r"expected 4 clips, got 3"):
        read_shard(f"{source}/{shard_name(0)}", 4)
    path = Path(source) / shard_name(0)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"expected a tar file of model.cli.encode"):
        read_shard(str(path), 3)
    (Path(source) / "index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected an index"):
        read_index(source)
    with pytest.raises(ValueError, match=r"^data.weights: expected a positive number for each"):
        ShardedLatentBatches([write_set(tmp_path / "other", [3])], [1, 2], batch_size=1)
    assert np.isfinite(numbers(ShardedLatentBatches([str(tmp_path / "other")], batch_size=1), range(2))).all()
