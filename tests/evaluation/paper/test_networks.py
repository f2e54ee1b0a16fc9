"""Foreign networks from files and folders in their real formats, on tiny random weights; ours by what it has learnt."""

import json
from pathlib import Path

import pytest
import torch

from model.evaluation.paper.i3d import I3DVideos
from model.evaluation.paper.lab_network import (
    NAMES,
    LabImages,
    LabNetwork,
    LabNetworkConfig,
    LabVideos,
    load_lab_network,
)
from model.evaluation.paper.lab_training import NamedClips, centre_frame_features
from model.evaluation.paper.networks import ImageNetwork, VideoNetwork, build_image_network, build_video_network
from model.evaluation.paper.transformers_networks import TransformersImages, VideoMAEVideos
from model.tensor_file import load_tensors, save_tensors

transformers = pytest.importorskip("transformers")
SIDE = 32
SETTINGS = {
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_center_crop": True,
    "do_resize": True,
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 16}


def pictures(num_frames: int, height: int = 48, width: int = 80) -> torch.Tensor:
    noise = torch.rand(num_frames, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * smooth).byte().movedim(1, -1).contiguous()


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Random networks, saved as transformers saves real ones."""
    clip = transformers.CLIPConfig(
        vision_config={**SMALL, "image_size": SIDE},
        text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=24,
    )
    networks = {
        "clip": transformers.CLIPModel(clip),
        "dinov2": transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, image_size=SIDE)),
        "videomae": transformers.VideoMAEModel(
            transformers.VideoMAEConfig(**SMALL, image_size=SIDE, num_frames=4, tubelet_size=2)
        ),
    }
    for name, network in networks.items():
        network.eval().save_pretrained(tmp_path / name)
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
    return {name: tmp_path / name for name in networks}


@pytest.mark.parametrize("size", [(48, 80), (96, 64)], ids=["wide", "high"])
def test_clip_sees_what_transformers_own_processor_and_model_give(folders, size):
    frames = pictures(3, *size)
    processor = transformers.CLIPImageProcessorPil(**SETTINGS)
    whole = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.inference_mode():
        prepared = processor(images=[frame.numpy() for frame in frames], return_tensors="pt")["pixel_values"]
        expected = whole.visual_projection(whole.vision_model(pixel_values=prepared).pooler_output)
    ours = TransformersImages(folders["clip"])(frames)
    assert ours.shape == (3, 24)
    assert torch.cosine_similarity(ours, expected).min() > 0.9999
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_dinov2_and_videomae_give_features_of_their_width(folders):
    assert TransformersImages(folders["dinov2"])(pictures(3)).shape == (3, 32)
    features = VideoMAEVideos(folders["videomae"])
    assert features(pictures(9)).shape == (32,)
    assert not torch.allclose(features(pictures(9)), features(pictures(9).flip(0)), atol=1e-4)


def test_a_network_is_named_after_its_weights(folders):
    before = TransformersImages(folders["dinov2"]).name
    other = transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, image_size=SIDE))
    other.save_pretrained(folders["dinov2"])
    assert before.startswith("DINOv2 ") and TransformersImages(folders["dinov2"]).name != before


def test_weights_that_are_missing_or_of_another_network_are_named(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"videomae: .* get MCG-NJU/videomae-base .* name it with videomae="):
        VideoMAEVideos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="videomae: expected a folder of videomae, got one of 'clip'"):
        VideoMAEVideos(folders["clip"])
    with pytest.raises(ValueError, match="image_network: expected a folder of dinov2, got one of 'videomae'"):
        TransformersImages(folders["videomae"])
    weights = load_tensors(folders["videomae"] / "model.safetensors")[0]
    weights.pop(next(name for name in weights if "attention" in name))
    save_tensors(folders["videomae"] / "model.safetensors", weights, {"format": "pt"})
    with pytest.raises(ValueError, match="videomae: expected all weights of videomae, 1 are missing"):
        VideoMAEVideos(folders["videomae"])
    (folders["dinov2"] / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="image_network: expected safetensors weights"):
        TransformersImages(folders["dinov2"])
    with pytest.raises(FileNotFoundError, match=r"i3d: .* get i3d_torchscript\.pt"):
        I3DVideos(tmp_path / "i3d.pt")
    (tmp_path / "i3d.pt").write_bytes(b"no TorchScript")
    with pytest.raises(ValueError, match="i3d: expected a file of weights or TorchScript"):
        I3DVideos(tmp_path / "i3d.pt")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "i3d.pt")
    with pytest.raises(ValueError, match="i3d: expected I3D's tensors"):
        I3DVideos(tmp_path / "i3d.pt")
    for stored in ([torch.zeros(1)], {1: torch.zeros(1)}, {"logits.conv3d.bias": 3}):
        torch.save(stored, tmp_path / "i3d.pt")
        with pytest.raises(ValueError, match="i3d: expected I3D's tensors"):
            I3DVideos(tmp_path / "i3d.pt")
    with pytest.raises(ValueError, match="expected one of them"):
        build_video_network("a", "b", "cpu")


class ScriptedNetwork(torch.nn.Module):
    """The signature of the published file; its features are the means and the ends of the clip's values."""

    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        assert not rescale and not resize and return_features
        assert x.shape[1] == 3 and x.shape[3] == 224 and x.shape[4] == 224
        ends = torch.stack([x.amin(dim=(1, 2, 3, 4)), x.amax(dim=(1, 2, 3, 4))], dim=1)
        return torch.cat([x.mean(dim=(3, 4)).flatten(1), ends], dim=1)


def test_i3d_gets_the_middle_square_at_224_pixels_in_minus_one_to_one(tmp_path):
    torch.jit.script(ScriptedNetwork()).save(str(tmp_path / "i3d.pt"))
    frames = torch.zeros(10, 60, 100, 3, dtype=torch.uint8)
    frames[:, :, 20:80] = 255  # the middle square is white, the rest black
    features = I3DVideos(tmp_path / "i3d.pt")(frames)
    assert features[:30] == pytest.approx(torch.ones(30), abs=0.02)
    with pytest.raises(ValueError, match="at least 10 frames"):
        I3DVideos(tmp_path / "i3d.pt")(frames[:9])


def test_without_weights_ours_is_taken_by_its_own_name():
    video, image = build_video_network(None, None, "cpu"), build_image_network(None, "cpu")
    assert isinstance(video, VideoNetwork) and video.metric == "frechet_lab"
    assert isinstance(image, ImageNetwork) and image.metric == "lab_consistency"


def test_ours_sees_the_order_of_frames_in_clips_and_not_in_pictures():
    network = LabNetwork(LabNetworkConfig())
    frames = pictures(16)
    clips, images = LabVideos(network), LabImages(network)
    half = network.config.features
    forth, back = clips(frames), clips(frames.flip(0))
    assert torch.allclose(forth[:half], back[:half], atol=1e-5)
    assert not torch.allclose(forth[half:], back[half:], atol=1e-3)
    assert torch.allclose(images(frames).flip(0), images(frames.flip(0)), atol=1e-5)


def test_the_shipped_weights_are_small_and_say_how_well_they_name():
    folder = Path(__file__).parents[3] / "model/pretrained/lab_network"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["theme_accuracy"] > 0.9 and meta["colours_auc"] > 0.6
    assert load_lab_network().config == LabNetworkConfig()


def test_centred_features_have_mean_zero_and_every_logit_is_kept():
    network = LabNetwork(LabNetworkConfig())
    frames = torch.stack([pictures(16).roll(shift, dims=2) for shift in range(4)])
    names = {head: torch.ones(4, len(known), dtype=torch.bool) for head, known in NAMES.items()}
    before = network(frames)
    centre_frame_features(network, NamedClips(frames, **names))
    assert network.of_frames(network.prepared(frames)).mean(dim=(0, 1)).abs().max() < 1e-5
    for head, logits in network(frames).items():
        torch.testing.assert_close(logits, before[head], rtol=0, atol=1e-4)
