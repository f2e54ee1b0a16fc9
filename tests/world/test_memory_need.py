"""How much memory decoding takes, counted; and how much there is: the machine's, or less in a container."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.vae import video_vae
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.open import memory_need
from model.world.open.memory_need import check_memory, container_limit, decoding_bytes


@pytest.mark.parametrize("num_latents", [1, 3, 8])
@pytest.mark.parametrize("is_wan22", [False, True])
def test_decoding_takes_what_is_said(
    is_wan22: bool, num_latents: int, peak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"base_dim": 16}
    if is_wan22:
        options = {"latent_channels": 48, "base_dim": 10, "decoder_base_dim": 16, "patch_size": 2, "is_residual": True}
    vae = VideoVAE(VideoVAEConfig(**options)).requires_grad_(False)
    size, rows = 8 * vae.spatial_stride, 2  # a single row takes another path on the CPU
    # at most four latents of each row in a piece
    monkeypatch.setattr(video_vae, "MOST_ELEMENTS", 4 * rows * vae.config.elements_a_latent(size, size))
    with torch.no_grad():
        _, cache = vae.decode_chunk(torch.zeros(rows, vae.config.latent_channels, 1, 8, 8))
        with peak(vae) as counted:
            video, _ = vae.decode_chunk(torch.zeros(rows, vae.config.latent_channels, num_latents, 8, 8), cache)
    found = (counted.peak + sum(tensor.nbytes for tensor in cache.values()) - video.nbytes) / rows
    monkeypatch.setattr(video_vae, "MOST_ELEMENTS", 4 * vae.config.elements_a_latent(size, size))
    assert found == pytest.approx(decoding_bytes(vae.config, size, size, num_latents, 4), rel=0.1)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_limit_there_is_none(tmp_path: Path) -> None:
    assert container_limit(tmp_path) is None
    write(tmp_path, **{"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__memory.max": "max\n"})
    assert container_limit(tmp_path) is None


def test_the_smallest_limit_above_the_process_counts(tmp_path: Path) -> None:
    groups = {"memory.max": "max", "job__memory.max": "3000", "job__step__memory.max": "5000", "other__memory.max": "7"}
    write(tmp_path, **{"proc__self__cgroup": "0::/job/step\n"})
    write(tmp_path / "sys/fs/cgroup", **groups)
    assert container_limit(tmp_path) == 3000


def test_the_first_version_of_cgroups_is_read_too(tmp_path: Path) -> None:
    write(tmp_path, **{"proc__self__cgroup": "7:blkio:/\n5:cpu,memory:/box\n0::/\n"})
    write(tmp_path / "sys/fs/cgroup/memory", **{"memory.limit_in_bytes": "9223372036854771712"})
    write(tmp_path / "sys/fs/cgroup/memory", **{"box__memory.limit_in_bytes": "4000"})
    assert container_limit(tmp_path) == 4000
    write(tmp_path, **{"proc__self__cgroup": "5:memory:/outside\n"})  # a name that is not mounted in the container
    write(tmp_path / "sys/fs/cgroup/memory", **{"memory.limit_in_bytes": "6000"})
    assert container_limit(tmp_path) == 6000


def test_a_container_s_limit_is_what_a_world_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    check_memory(torch.device("cpu"), {"weights": 2_000_000}, "")
    monkeypatch.setattr(memory_need, "container_limit", lambda: 1_000_000)
    with pytest.raises(ValueError, match=r"^device: expected 0.0 GB on cpu .*, got 0.0; rest$"):
        check_memory(torch.device("cpu"), {"weights": 2_000_000}, "rest")
