"""How much memory there is: the machine's, or less in a container."""

from pathlib import Path

import pytest
import torch

from model.world.open import memory_need
from model.world.open.memory_need import check_memory, container_limit


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
