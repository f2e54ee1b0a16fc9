"""LPIPS on an AlexNet with random weights in torchvision's place; torchmetrics and its linear heads are real."""

import sys
import urllib.error
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torchmetrics.functional.image.lpips
import torchmetrics.image.lpip
from torch import Tensor, nn

from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.evaluation.oracle import render_oracle_scenes
from model.evaluation.perceptual import PerceptualDistance
from model.evaluation.report import evaluation_tables
from model.evaluation.world_evaluator import EvaluationConfig, EvaluationReport, WorldEvaluator
from model.world.synthetic_world import SyntheticWorld


def random_alexnet(weights: object) -> SimpleNamespace:
    """The features of torchvision's AlexNet, layer by layer, without anything learned."""
    assert weights == "default"
    torch.manual_seed(0)
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    return SimpleNamespace(
        features=nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool()),
            *(nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu()),
            *(nn.Conv2d(256, 256, 3, padding=1), relu(), pool()),
        )
    )


def install(monkeypatch: pytest.MonkeyPatch, alexnet: Callable[[object], object]) -> None:
    torchvision = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(alexnet=alexnet, AlexNet_Weights=SimpleNamespace(DEFAULT="default"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    for module in (torchmetrics.functional.image.lpips, torchmetrics.image.lpip):
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)


@pytest.fixture
def clip() -> Tensor:
    return torch.randint(0, 256, (2, 3, 48, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_same_picture_has_no_distance_and_noise_has_more(monkeypatch: pytest.MonkeyPatch, clip: Tensor) -> None:
    install(monkeypatch, random_alexnet)
    distance = PerceptualDistance()
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(2))
    a_little, a_lot = (((clip + size * noise).clamp(0, 255)).byte() for size in (8, 60))
    assert distance(clip, clip) == 0
    assert 0 < distance(a_little, clip) < distance(a_lot, clip)
    assert distance(a_lot, clip) == pytest.approx(distance(clip, a_lot), rel=1e-5)
    # a mean over frames of all clips, and nothing is left over from the calls before
    one_by_one = [distance(a_lot[i : i + 1, k : k + 1], clip[i : i + 1, k : k + 1]) for i in range(2) for k in range(3)]
    assert distance(a_lot, clip) == pytest.approx(sum(one_by_one) / 6, rel=1e-5)


def test_the_oracle_gets_a_row_and_the_renderer_scores_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, random_alexnet)
    clips = ClipSetConfig(num_clips=1, num_latents=5, first_seed=HELD_OUT_SEED)
    scenes = render_oracle_scenes(clips, 1)
    evaluator = WorldEvaluator(SyntheticWorld(), None, clips, scenes, EvaluationConfig(lpips=True))
    fidelity = evaluator.fidelity(scenes.frames)
    assert fidelity["lpips"] == [0.0]
    assert evaluator.fidelity(255 - scenes.frames)["lpips"] != [0.0]
    tables = evaluation_tables(EvaluationReport({"fidelity": dict(fidelity), "determinism": {"repeats": True}}))
    assert "| LPIPS | 0.000 |" in tables


def test_missing_weights_are_named_with_the_place_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(weights: object) -> SimpleNamespace:
        raise urllib.error.URLError("no network")

    install(monkeypatch, unreachable)
    with pytest.raises(ValueError, match=r"lpips: expected AlexNet's weights .* put alexnet-owt-7be5be79.pth into /.*"):
        PerceptualDistance()


def test_a_missing_package_is_named_before_anything_is_flown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ValueError, match=r"torchvision: expected it to be installed.*\[lpips\]"):
        EvaluationConfig(lpips=True)
