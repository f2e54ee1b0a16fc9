"""The learned world's clip against its floor: its own FLOPs at the matrix-product rate of this machine, in one run."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.flop_counter import FlopCounterMode

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig
from model.world.load import build_text_encoder, load_world
from model.world.protocol import WorldModel


@pytest.fixture(scope="module")
def world() -> WorldModel:
    """The shipped world; where its weights are not there yet, random ones of the same shape: equally much work."""
    if files("model.pretrained").joinpath("tiny", "world.yaml").is_file():
        return load_world("tiny")
    dit = VideoDiT(VideoDiTConfig(width=192, num_heads=4, num_blocks=8, ffn_dim=768, text_dim=64, freq_dim=128))
    vae = VideoVAE(
        VideoVAEConfig(
            base_dim=48,
            decoder_base_dim=64,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            decoder_num_res_blocks=2,
            temporal_downsample=[True, True],
            spatial_downsample=[True, False],
            patch_size=4,
            linear_path=True,
        )
    )
    config = WorldConfig(sampler=SamplerConfig(num_steps=8))
    encoder = build_text_encoder(config.text_encoder, Path("."))
    return CameraWorld(dit.eval(), vae.eval(), encoder, config.spec(), sampler=config.sampler)


@pytest.mark.parametrize("batch", [1, 8])
def test_extend(
    benchmark: BenchmarkFixture, world: WorldModel, batch: int, matrix_product_rate: Callable[[], float]
) -> None:
    poses = torch.eye(4).repeat(batch, world.spec.poses_per_clip, 1, 1)
    state, _ = world.start(range(batch))
    state, _ = world.extend(state, poses)  # from here on the context window is full
    with FlopCounterMode(display=False) as counter:
        world.extend(state, poses)
    _, frames = benchmark.pedantic(world.extend, (state, poses), rounds=5, warmup_rounds=1, iterations=1)
    seconds = benchmark.stats.stats.median
    rate = matrix_product_rate()
    benchmark.extra_info.update(
        frames_per_second=round(frames.shape[0] * frames.shape[1] / seconds, 1),
        gflop=round(counter.get_total_flops() / 1e9, 2),
        matrix_product_gflop_per_second=round(rate / 1e9, 1),
        ratio_to_floor=round(seconds * rate / counter.get_total_flops(), 2),
    )


def test_start(benchmark: BenchmarkFixture, world: WorldModel) -> None:
    _, frames = benchmark.pedantic(world.start, ([1],), rounds=3, warmup_rounds=1, iterations=1)
    assert frames.shape[1] == 1
