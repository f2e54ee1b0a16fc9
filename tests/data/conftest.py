"""A camera path of five frames, pictures of nothing, and whether a path that was read is the one that was written."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from model.data.video_io import write_image
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory


@pytest.fixture
def camera() -> CameraTrajectory:
    c2w = se3.exp(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)))
    return CameraTrajectory(c2w, torch.tensor([0.8, 1.1, 0.49, 0.52]).expand(5, 4))


@pytest.fixture
def pictures() -> Callable[..., None]:
    def write(folder: Path, names: Iterable[str], height: int = 240, width: int = 320) -> None:
        for name in names:
            write_image(folder / name, torch.zeros(height, width, 3, dtype=torch.uint8))

    return write


@pytest.fixture
def same() -> Callable[[CameraTrajectory | None, CameraTrajectory], bool]:
    def compare(a: CameraTrajectory | None, b: CameraTrajectory) -> bool:
        assert a is not None
        return torch.allclose(a.c2w, b.c2w, atol=1e-5) and torch.allclose(a.intrinsics, b.intrinsics, atol=1e-6)

    return compare
