"""Our networks with a published folder's weights against DiffSynth-Studio's own classes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from model.geometry.plucker import plucker_map
from model.geometry.se3 import exp
from model.pretrained.original_encoders import load_image_encoder, load_text_encoder
from model.pretrained.original_vae import load_original_vae
from model.pretrained.wan_fun import load_wan_fun, wan_fun_config
from model.world.open.clip_image_encoder import CLIPImageEncoder
from model.world.open.wan_fun_config import WanFunWorldConfig

CLOSE = 1e-4


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def maps_as_published(diffsynth: SimpleNamespace, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """The pipeline's input of the adapter, `[b, 24, f, h, w]`, by its own functions of poses."""
    height, width = size
    pixels = intrinsics * torch.tensor([width, height, width, height])
    rays = diffsynth.wan_video_camera_controller.ray_condition(
        pixels.expand(1, c2w.shape[1], 4), c2w, height, width, "cpu"
    )
    video = rays.permute(0, 4, 1, 2, 3)
    frames = torch.cat([video[:, :, :1].repeat_interleave(4, dim=2), video[:, :, 1:]], dim=2).transpose(1, 2)
    b, f, c, h, w = frames.shape
    return frames.reshape(b, f // 4, 4, c, h, w).transpose(2, 3).reshape(b, f // 4, c * 4, h, w).transpose(1, 2)


def test_the_transformer_agrees(published: Path, networks: SimpleNamespace, diffsynth: SimpleNamespace) -> None:
    dit, oracle = load_wan_fun(published, wan_fun_config(published)), networks.dit
    latents, text = torch.randn(1, 32, 3, 4, 6), torch.randn(1, 7, 16)
    features, t = torch.randn(1, 257, 160), torch.tensor([0.7])
    c2w = exp(torch.randn(1, 9, 6) * 0.3)
    intrinsics = torch.tensor([0.55, 0.95, 0.5, 0.5])
    control = maps_as_published(diffsynth, c2w, intrinsics, (32, 48))

    def patchify(x: Tensor) -> tuple[Tensor, tuple[int, ...]]:  # the pipeline's function of the model does the same
        y = type(oracle).patchify(oracle, x, control)
        return y.flatten(2).transpose(1, 2), y.shape[2:]

    oracle.patchify = patchify
    expected = oracle(latents[:, :16], 1000 * t, text, clip_feature=features, y=latents[:, 16:])
    del oracle.patchify
    camera = dit.control_adapter(plucker_map(c2w, intrinsics[None], 32, 48))
    got = dit(latents, t, dit.project_text(text), dit.project_image(features), camera)
    torch.testing.assert_close(got, expected, atol=CLOSE, rtol=0)
    still = dit(latents, t, dit.project_text(text), dit.project_image(features), torch.zeros_like(camera))
    assert (got - still).abs().mean() > 100 * CLOSE  # the camera matters


def test_the_vae_agrees(published: Path, networks: SimpleNamespace) -> None:
    vae = load_original_vae(published / "Wan2.1_VAE.pth")
    scale = [torch.tensor(vae.config.latents_mean), 1 / torch.tensor(vae.config.latents_std)]
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    latents = networks.vae.encode(video, scale)
    torch.testing.assert_close(vae.encode(video), latents, atol=CLOSE, rtol=0)
    torch.testing.assert_close(vae.decode(latents), networks.vae.decode(latents, scale), atol=CLOSE, rtol=0)


def test_the_text_encoder_agrees(published: Path, networks: SimpleNamespace) -> None:
    encoder = load_text_encoder(published / "models_t5_umt5-xxl-enc-bf16.pth")
    ids, mask = torch.randint(0, 32, (2, 200)), torch.ones(2, 200, dtype=torch.int64)
    mask[1, 60:] = 0
    got = encoder(ids, mask).last_hidden_state * mask[..., None]
    torch.testing.assert_close(got, networks.text(ids, mask) * mask[..., None], atol=CLOSE, rtol=0)


def test_the_picture_s_tokens_agree(published: Path, networks: SimpleNamespace) -> None:
    path = published / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
    picture = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    got = CLIPImageEncoder(load_image_encoder(path))(picture, 1, torch.device("cpu"))
    frame = picture.movedim(-1, 1).float() / 255 * 2 - 1
    frame = torch.nn.functional.interpolate(frame, (28, 28), mode="bicubic", align_corners=False) * 0.5 + 0.5
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    frame = (frame - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(got, networks.image(frame, use_31_block=True), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("shape", [(832, 480), (480, 480), (1280, 720), (480, 832)])
def test_the_lens_is_the_published_one(diffsynth: SimpleNamespace, shape: tuple[int, int]) -> None:
    width, height = shape
    controller = diffsynth.wan_video_camera_controller
    row = [0, 0.532139961, 0.946026558, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    expected = controller.process_pose_file([row], width, height)
    intrinsics = torch.tensor(WanFunWorldConfig(width=width, height=height).spec().intrinsics)
    got = plucker_map(torch.eye(4)[None, None], intrinsics[None], height, width)[0].movedim(1, -1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
