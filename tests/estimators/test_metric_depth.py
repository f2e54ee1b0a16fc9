"""Depth networks in transformers' real format (tiny, random weights), and depth that is given."""

import json
import math
from pathlib import Path

import pytest
import torch

from model.estimators.metric_depth import GivenDepth, JudgesLens, MetricDepth, TransformersDepth

transformers = pytest.importorskip("transformers")
BACKBONE = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def frames(count: int = 2, height: int = 45, width: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth * 255).to(torch.uint8).movedim(1, -1).contiguous()


def save(folder: Path, model: object, processor: dict[str, object]) -> Path:
    model.save_pretrained(str(folder))  # type: ignore[attr-defined]
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def depth_anything(folder: Path, kind: str = "metric") -> Path:
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        **BACKBONE, image_size=56, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20,
    )
    processor = {"size": {"height": 56, "width": 56}, "keep_aspect_ratio": True, "ensure_multiple_of": 14, **IMAGENET}
    return save(folder, transformers.DepthAnythingForDepthEstimation(config), processor)


def depth_pro(folder: Path, use_fov_model: bool = True) -> Path:
    torch.manual_seed(0)
    part = {"model_type": "dinov2", **BACKBONE, "image_size": 16, "patch_size": 4}
    config = transformers.DepthProConfig(
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[8, 8],
        use_fov_model=use_fov_model,
        num_fov_head_layers=2,
        image_model_config=part,
        patch_model_config=part,
        fov_model_config=part,
    )
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = transformers.DepthProForDepthEstimation(config)
    if use_fov_model:  # random weights say a negative angle, which tests nothing
        last = [part for part in model.fov_model.head.modules() if isinstance(part, torch.nn.Conv2d)][-1]
        torch.nn.init.constant_(last.bias, 60.0)
    return save(folder, model, {"size": {"height": 64, "width": 64}, **half})


def test_metric_depth_anything_is_what_transformers_own_pipeline_gives(tmp_path: Path) -> None:
    """Second implementation: transformers' processor (on PIL) and its resizing."""
    depth = TransformersDepth(depth_anything(tmp_path))
    assert isinstance(depth, MetricDepth)
    pictures = frames()
    found = depth(pictures)
    processor = transformers.DPTImageProcessorPil.from_pretrained(str(tmp_path))
    inputs = processor([picture.numpy() for picture in pictures], return_tensors="pt")
    model = transformers.AutoModelForDepthEstimation.from_pretrained(str(tmp_path)).eval()
    with torch.no_grad():
        expected = model(**inputs).predicted_depth[:, None]
    expected = torch.nn.functional.interpolate(expected, (45, 80), mode="bicubic")[:, 0]
    assert found.shape == (2, 45, 80) and float(found.std()) > 0
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)  # their picture is resized by PIL's integers
    torch.testing.assert_close(depth(pictures[1]), found[1])


def test_depth_pro_turns_canonical_inverse_depth_into_metres(tmp_path: Path) -> None:
    """Against Depth Pro's formula: depth = f / (W C), f from the angle of view that the network estimates."""
    folder = depth_pro(tmp_path)
    pictures = frames(1)
    found = TransformersDepth(folder)(pictures)
    model = transformers.AutoModelForDepthEstimation.from_pretrained(str(folder)).eval()
    prepared = torch.nn.functional.interpolate(pictures.movedim(-1, 1) / 127.5 - 1, (64, 64), mode="bilinear")
    with torch.no_grad():
        output = model(pixel_values=prepared)
    canonical = torch.nn.functional.interpolate(output.predicted_depth[None], (45, 80), mode="bilinear")[0]
    focal = 0.5 * 80 / math.tan(math.radians(float(output.field_of_view)) / 2)
    metres = 1 / (canonical * 80 / focal).clamp(1e-4, 1e4)
    assert found.shape == (1, 45, 80) and float(found.std()) > 0
    torch.testing.assert_close(found, metres, rtol=1e-4, atol=0)


def test_depth_pro_judges_the_lens_and_depth_anything_does_not(tmp_path: Path) -> None:
    folder = depth_pro(tmp_path / "pro")
    depth, pictures = TransformersDepth(folder), frames()
    assert isinstance(depth, JudgesLens)
    model = transformers.AutoModelForDepthEstimation.from_pretrained(str(folder)).eval()
    prepared = torch.nn.functional.interpolate(pictures.movedim(-1, 1) / 127.5 - 1, (64, 64), mode="bilinear")
    with torch.no_grad():
        expected = model(pixel_values=prepared).field_of_view.flatten()
    torch.testing.assert_close(depth.horizontal_fov_deg(pictures), expected, rtol=1e-4, atol=1e-3)
    assert TransformersDepth(depth_anything(tmp_path / "any")).horizontal_fov_deg(pictures) is None


def test_folders_without_metric_depth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metric depth, got a relative depth_anything"):
        TransformersDepth(depth_anything(tmp_path / "relative", "relative"))
    with pytest.raises(ValueError, match="knows no angle of view"):
        TransformersDepth(depth_pro(tmp_path / "blind", use_fov_model=False))
    depth_anything(tmp_path / "metric")
    (tmp_path / "metric" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="transformers' format"):
        TransformersDepth(tmp_path / "metric")
    with pytest.raises(ValueError, match="processor's settings"):
        TransformersDepth(tmp_path / "nothing")


def test_given_depth_is_found_by_its_picture() -> None:
    pictures = frames(3)
    maps = torch.rand(3, 45, 80)
    given = GivenDepth(pictures, maps)
    assert torch.equal(given(pictures[[2, 0]]), maps[[2, 0]])
    assert torch.equal(given(pictures[1].clone()), maps[1])
    with pytest.raises(ValueError, match="got another one"):
        given(pictures.flip(1))
