"""What a step costs against the number of environments and solver steps, how much of it is decoding, what snapshots
and forks cost, and whether age costs anything.

The learned world is the shipped one, or random weights of the same shape: equally much work.
"""

import statistics
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from cc2env.vector_env import CameraCtrlWorldVectorEnv
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig
from model.world.load import build_text_encoder, load_world
from model.world.options import WorldOptions
from model.world.synthetic_world import SyntheticWorld


@pytest.fixture(scope="module")
def learned():
    if files("model.pretrained").joinpath("tiny", "world.yaml").is_file():
        return load_world("tiny")
    dit = VideoDiT(VideoDiTConfig(width=192, num_heads=4, num_blocks=8, ffn_dim=768, text_dim=64, freq_dim=128))
    sizes = {"base_dim": 48, "decoder_base_dim": 64, "dim_mult": [1, 2, 2], "patch_size": 4, "linear_path": True}
    depth = {"num_res_blocks": 1, "decoder_num_res_blocks": 2}
    strides = {"temporal_downsample": [True, True], "spatial_downsample": [True, False]}
    vae = VideoVAE(VideoVAEConfig(**sizes, **depth, **strides))
    config = WorldConfig(sampler=SamplerConfig(num_steps=8))
    encoder = build_text_encoder(config.text_encoder, Path("."))
    return CameraWorld(dit.eval(), vae.eval(), encoder, config.spec(), sampler=config.sampler)


def forward(envs):
    action = np.zeros(envs.action_space.shape, np.float32)
    action[..., 2], action[..., 4] = 0.1, 0.02
    return action


def flying(world, num_envs, kind=CameraCtrlWorldVectorEnv, **arguments):
    """An environment whose context windows are full."""
    envs = kind(num_envs, world, **arguments)
    envs.reset(seed=0)
    for _ in range(2):
        envs.step(forward(envs))
    return envs


def seconds_per_step(envs, rounds=3):
    action, seconds = forward(envs), []
    for _ in range(rounds):
        start = time.perf_counter()
        envs.step(action)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def split(envs, world, monkeypatch, rounds=3):
    """What a step's time goes into: decoding, and all the rest for each evaluation of the network for one clip."""
    seconds, decode = [], VideoVAE.decode_chunk

    def timed(*args, **kwargs):
        start = time.perf_counter()
        out = decode(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return out

    with monkeypatch.context() as patch:
        patch.setattr(VideoVAE, "decode_chunk", timed)
        totals = [seconds_per_step(envs, 1) for _ in range(rounds)]
    assert len(seconds) == rounds, "decode_chunk: expected one call a step; measure what decodes now"
    shares = [part / total for part, total in zip(seconds, totals, strict=True)]
    rest = [total - part for part, total in zip(seconds, totals, strict=True)]
    evaluations = envs.num_envs * world.spec.evaluations_per_clip
    return {
        "decode_share": round(statistics.median(shares), 3),
        "ms_per_evaluation": round(1e3 * statistics.median(rest) / evaluations, 2),
    }


@pytest.mark.parametrize("num_envs", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("world", ["learned", "synthetic"])
def test_step(benchmark, request, monkeypatch, world, num_envs):
    """Clips and frames per second, ms for each function evaluation, share of decoding, memory of one's state."""
    world = request.getfixturevalue("learned") if world == "learned" else SyntheticWorld()
    envs = flying(world, num_envs)
    action = forward(envs)
    benchmark.pedantic(envs.step, (action,), rounds=3, warmup_rounds=1, iterations=1)
    if benchmark.stats is None:
        return
    seconds, spec = benchmark.stats.stats.median, world.spec
    snapshot = envs.snapshot().to_tensordict()
    held = sum(leaf.numel() * leaf.element_size() for leaf in snapshot.values(True, True))
    benchmark.extra_info.update(
        clips_per_second=round(num_envs / seconds, 3),
        frames_per_second=round(num_envs * spec.frames_per_clip / seconds, 1),
        ms_per_environment=round(1e3 * seconds / num_envs, 2),
        kib_per_environment=round(held / num_envs / 1024, 1),
    )
    if spec.evaluations_per_clip:
        benchmark.extra_info.update(split(envs, world, monkeypatch))


@pytest.mark.parametrize("sampler_steps", [1, 2, 4, 8, 16])
def test_sampler_steps(benchmark, monkeypatch, sampler_steps):
    """The same, of one environment, against the steps of its solver: decoding costs the same whatever they are."""
    world = load_world("tiny", WorldOptions(sampler_steps=sampler_steps))
    envs = flying(world, 1)
    benchmark.pedantic(envs.step, (forward(envs),), rounds=3, warmup_rounds=1, iterations=1)
    if benchmark.stats is not None:
        frames = world.spec.frames_per_clip / benchmark.stats.stats.median
        benchmark.extra_info.update(frames_per_second=round(frames, 1), **split(envs, world, monkeypatch))


@pytest.mark.parametrize("collision", ["none", "stop"])
def test_looking_where_one_flies(benchmark, collision):
    """What it costs to estimate the free space of every move."""
    world = load_world("tiny")
    envs = flying(world, 1, collision=collision)
    benchmark.pedantic(envs.step, (forward(envs),), rounds=5, warmup_rounds=1, iterations=1)


def test_eight_environments_share_their_costs(benchmark, learned):
    """The cost of an environment among eight, divided by that of one alone, measured in one run, taking turns."""
    one, eight = flying(learned, 1), flying(learned, 8)
    ratios = [seconds_per_step(eight, 1) / 8 / seconds_per_step(one, 1) for _ in range(4)]
    benchmark.extra_info["cost_per_environment_at_8"] = round(statistics.median(ratios), 3)
    benchmark.pedantic(eight.step, (forward(eight),), rounds=1, iterations=1)


@pytest.mark.parametrize("what", ["snapshot", "restore", "fork into 8", "save"])
def test_branching(benchmark, learned, tmp_path, what):
    envs = flying(learned, 1)
    futures = CameraCtrlWorldVectorEnv(8, learned)
    kept = envs.snapshot()
    calls = {
        "snapshot": envs.snapshot,
        "restore": lambda: envs.restore(kept),
        "fork into 8": lambda: futures.restore(kept.fork(8)),
        "save": lambda: kept.save(tmp_path / "moment.safetensors"),
    }
    benchmark.pedantic(calls[what], rounds=20, warmup_rounds=2, iterations=1)


def test_age_costs_nothing(benchmark, learned):
    """Step 1000 against step 10: the state is as large, so the work is the same. The age is set, not flown."""
    young = flying(learned, 1)
    old = flying(learned, 1)
    kept = old.snapshot()
    kept.session.state.step.fill_(1000)
    kept.session.clip_index.fill_(1000)
    old.restore(kept)
    ratios = [seconds_per_step(old, 1) / seconds_per_step(young, 1) for _ in range(6)]
    benchmark.extra_info["step_1000_over_step_10"] = round(statistics.median(ratios), 3)
    benchmark.pedantic(old.step, (forward(old),), rounds=1, iterations=1)


def test_torchrl_step(benchmark, learned):
    env = CameraCtrlWorldTorchRLEnv(8, learned)
    td = env.reset()
    td = env.rand_step(td)["next"].exclude("reward")
    action = torch.zeros_like(env.rand_action()["action"])
    action[..., 2] = 0.1
    benchmark.pedantic(lambda: env.step(td.set("action", action)), rounds=3, warmup_rounds=1, iterations=1)
