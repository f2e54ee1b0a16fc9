"""The RAFT adapter on a module of known mathematics in RAFT's place (torchvision's own network is not run here)."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.estimators.optical_flow import OpticalFlow, RAFTFlow


class Double(nn.Module):
    """Like RAFT, lists an estimate per update; right is its weight times the updates, down the change of brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, first: torch.Tensor, second: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:
        assert first.shape == second.shape and not any(side % 8 or side < 128 for side in first.shape[2:])
        assert float(first.min()) >= -1 and float(first.max()) <= 1
        down = (second - first).mean(dim=1)
        return [torch.stack((self.weight * k * torch.ones_like(down), down), 1) for k in range(num_flow_updates + 1)]


def raft(weights: Path, updates: int = 3) -> RAFTFlow:
    return RAFTFlow(weights, num_updates=updates, build=Double)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("size", [(50, 83), (128, 136), (131, 200)])
def test_frames_of_any_size_go_in_and_the_last_estimate_comes_out(
    tmp_path: Path, suffix: str, size: tuple[int, int]
) -> None:
    path = tmp_path / f"raft{suffix}"
    state = {"weight": torch.tensor(1.5)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    first = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    second = first.flip(0)
    estimator = raft(path)
    assert isinstance(estimator, OpticalFlow)
    flow = estimator(first, second)
    assert torch.equal(flow[..., 0], torch.full(size, 4.5))
    expected = (second.float() - first.float()).mean(dim=-1) / 127.5
    torch.testing.assert_close(flow[..., 1], expected, atol=1e-5, rtol=0)


def test_other_weights_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Path("anything")))
    (tmp_path / "torn.safetensors").write_bytes(b"\x08")
    for name in ("other.safetensors", "evil.pth", "torn.safetensors"):
        with pytest.raises(ValueError, match="expected the weights of torchvision's raft_large"):
            raft(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="RAFT's weights"):
        raft(tmp_path / "missing.pth")
