"""I3D against the code that its published weights go with: cd-fvd's copy of pytorch-i3d, on random weights."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.evaluation.paper.i3d import I3DVideos
from model.evaluation.paper.inception import InceptionI3D

ORACLE = "cd-fvd==0.1.1"


@pytest.fixture(scope="module")
def oracle() -> Any:
    try:
        module = importlib.import_module("cdfvd.third_party.i3d.pytorch_i3d")
    except ImportError:
        message = f"needs {ORACLE}: pip install --no-deps {ORACLE}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    torch.manual_seed(0)
    network = module.InceptionI3d(400, in_channels=3).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.1)
            elif name.endswith("conv3d.weight"):
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
    return network


@pytest.mark.parametrize("num_frames", [11, 16])
@torch.inference_mode()
def test_same_names_and_logits(oracle: Any, num_frames: int) -> None:
    ours = InceptionI3D().eval()
    ours.load_state_dict(oracle.state_dict())
    clip = torch.rand(1, 3, num_frames, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = oracle(clip)
    assert expected.std() > 0.05
    assert torch.allclose(ours(clip), expected, atol=1e-4 * float(expected.abs().max()))


def test_weights_from_either_file_give_the_same_features(oracle: Any, tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (10, 24, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    torch.save(oracle.state_dict(), tmp_path / "i3d_pretrained_400.pt")
    save_file(oracle.state_dict(), tmp_path / "i3d.safetensors")
    features = [I3DVideos(tmp_path / name)(frames) for name in ("i3d_pretrained_400.pt", "i3d.safetensors")]
    assert features[0].shape == (400,) and torch.equal(features[0], features[1])
