"""A CUDA device: networks of the full shape of Wan 2.1 1.3B (random weights: equally much work) against their floor,
their FLOPs at the rate of a bfloat16 matrix product measured in the same process; and the shipped tiny world.

With SMALL=1 in the environment all of it runs on a CPU, with small networks and without CUDA graphs: its figures mean
nothing, but every line has run.
"""

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.flop_counter import FlopCounterMode
from training_step import CLIP, DIT, SMALL, peak_gib, stage_of, step_seconds, synchronize

import cc2env
from model.dit.video_dit import VideoDiT
from model.training.loop import FitConfig
from model.training.plan import WindowShape, training_memory, window_cost
from model.training.step_memory import step_bytes
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.acceleration import CALLS_BEFORE, accelerated

DEVICE = torch.device("cpu" if SMALL else "cuda")
pytestmark = pytest.mark.skipif(not SMALL and not torch.cuda.is_available(), reason="needs a CUDA device")

HEIGHT, WIDTH, TEXT_TOKENS = CLIP.rows, CLIP.columns, CLIP.text_tokens  # latents of 480 x 832
NUM_NEW, NUM_CONTEXT, SOLVER_STEPS = 4, 5, 32
BACKEND, NUM_ENVS = ("eager", 2) if SMALL else ("inductor", 64)
VAE = VideoVAEConfig()
if SMALL:
    VAE = VideoVAEConfig(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "graphs": {"cuda_graphs": True},
    "compiled, graphs": {"compile_backend": BACKEND, "cuda_graphs": True},
}


@pytest.fixture(scope="module")
def rate() -> float:
    """FLOP/s of a bfloat16 product of two 8192 x 8192 matrices, the best of several."""
    size, seconds = 64 if SMALL else 8192, []
    a = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(20):
        synchronize(DEVICE)
        start = time.perf_counter()
        a @ a
        synchronize(DEVICE)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


@pytest.fixture(scope="module")
def evaluation_seconds() -> dict[tuple[int, str | None], float]:
    """By the number of latent frames and the backend, what one evaluation of the transformer took."""
    return {}


@pytest.fixture(scope="module")
def dit() -> VideoDiT:
    with DEVICE:
        network = VideoDiT(DIT).bfloat16()
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    with DEVICE:
        network = VideoVAE(VAE).bfloat16()
    return network.requires_grad_(False).eval()


@pytest.fixture(autouse=True)
def forgotten_graphs() -> None:
    """Each benchmark compiles for its own shapes."""
    torch._dynamo.reset()


def forget_peak() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure(benchmark: BenchmarkFixture, call: Callable[[], object], rounds: int = 5) -> float:
    """The median time, s, of a call and the work it leaves to the device; notes peak memory, all networks in it."""

    def run() -> None:
        call()
        synchronize(DEVICE)

    run()  # compiles
    forget_peak()
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1, iterations=1)
    benchmark.extra_info["device"] = "cpu" if SMALL else torch.cuda.get_device_name()
    benchmark.extra_info["peak_gib"] = peak_gib(DEVICE)
    return float(benchmark.stats.stats.median)


def report(benchmark: BenchmarkFixture, seconds: float, flops: float, rate: float) -> None:
    benchmark.extra_info["tflop"] = round(flops / 1e12, 2)
    benchmark.extra_info["matrix_product_tflop_per_second"] = round(rate / 1e12, 1)
    benchmark.extra_info["ratio_to_floor"] = round(seconds * rate / flops, 2)


# a clip of an episode, and the 81 frames that Wan generates at once
@pytest.mark.parametrize("backend", [None, BACKEND])
@pytest.mark.parametrize(("frames", "num_context"), [(NUM_CONTEXT + NUM_NEW, NUM_CONTEXT), (21, 0)])
@torch.inference_mode()
def test_wan_evaluation(
    benchmark: BenchmarkFixture,
    dit: VideoDiT,
    vae: VideoVAE,
    rate: float,
    evaluation_seconds: dict[tuple[int, str | None], float],
    frames: int,
    num_context: int,
    backend: str | None,
) -> None:
    with DEVICE:
        like = {"dtype": torch.bfloat16}
        mask = torch.arange(frames)[None] < num_context
        inputs = {
            "latents": torch.randn(1, DIT.in_channels, frames, HEIGHT, WIDTH, **like),
            "t": 0.5 * ~mask,
            "context_mask": mask,
            "text_keys": dit.encode_text(torch.randn(1, TEXT_TOKENS, DIT.text_dim, **like)),
            "camera_tokens": dit.embed_camera(torch.randn(1, frames, 6, HEIGHT, WIDTH, **like)),
        }
    with FlopCounterMode(display=False) as counter:
        dit(**inputs, num_context=num_context)
    network = accelerated(dit, vae, backend, False)[0]
    seconds = measure(benchmark, lambda: network(**inputs, num_context=num_context))
    evaluation_seconds[frames, backend] = seconds
    report(benchmark, seconds, counter.get_total_flops(), rate)


@pytest.mark.parametrize("compile", [None, BACKEND])
def test_wan_training_step(benchmark: BenchmarkFixture, rate: float, compile: str | None) -> None:
    """All parameters, one clip a step, image to video; operations are counted without those that are recomputed.

    `planned_gib` is what `model.cli.plan` says of this step.
    """
    with DEVICE:
        dit = VideoDiT(DIT)
    dit.gradient_checkpointing = "selective"
    loop = FitConfig(bfloat16=True, compile=compile, progress=False)
    forget_peak()
    seconds = benchmark.pedantic(lambda: step_seconds(dit, loop, CLIP, DEVICE), rounds=1)
    window = WindowShape(CLIP.num_frames, 1, CLIP.rows, CLIP.columns, CLIP.text_tokens)
    flops = window_cost(DIT, window, "none").training
    report(benchmark, seconds, flops, rate)
    benchmark.extra_info["seconds"] = round(seconds, 3)
    benchmark.extra_info["share_of_the_rate"] = round(flops / seconds / rate, 3)
    benchmark.extra_info["peak_gib"] = peak_gib(DEVICE)
    with torch.device("meta"):
        dit = VideoDiT(DIT)
    dit.gradient_checkpointing = "selective"
    planned = sum(training_memory(dit, stage_of(loop), 1).values()) + step_bytes(dit, window, 1, True)
    benchmark.extra_info["planned_gib"] = round(planned / 2**30, 2)


@pytest.mark.parametrize("backend", [None, BACKEND])
@pytest.mark.parametrize("channels_last", [False, True])
@torch.inference_mode()
def test_wan_decoding_of_a_clip(
    benchmark: BenchmarkFixture,
    dit: VideoDiT,
    vae: VideoVAE,
    rate: float,
    evaluation_seconds: dict[tuple[int, str | None], float],
    channels_last: bool,
    backend: str | None,
) -> None:
    """Four latents, 16 frames; with the evaluations measured before, frames a second of a clip without guidance."""
    latents = torch.randn(1, VAE.latent_channels, 1 + NUM_NEW, HEIGHT, WIDTH, device=DEVICE, dtype=torch.bfloat16)
    _, cache = vae.decode_chunk(latents[:, :, :1])
    with FlopCounterMode(display=False) as counter:
        video, _ = vae.decode_chunk(latents[:, :, 1:], cache)
    num_frames = video.shape[2]
    network = copy.deepcopy(vae)
    if channels_last:
        network.use_channels_last()
    network = accelerated(dit, network, backend, False)[1]
    ours = network.decode_chunk(latents[:, :, 1:], cache)[0]
    error = (ours.float() - video.float()).norm() / video.float().norm()
    assert error < 0.05  # bfloat16, rounded at other places
    del ours, video
    seconds = measure(benchmark, lambda: network.decode_chunk(latents[:, :, 1:], cache))
    report(benchmark, seconds, counter.get_total_flops(), rate)
    benchmark.extra_info["decoded_frames_per_second"] = round(num_frames / seconds, 1)
    if (NUM_CONTEXT + NUM_NEW, backend) in evaluation_seconds:  # not where this test runs alone
        clip = SOLVER_STEPS * evaluation_seconds[NUM_CONTEXT + NUM_NEW, backend] + seconds
        benchmark.extra_info[f"clip_frames_per_second_{SOLVER_STEPS}_steps"] = round(num_frames / clip, 2)


@pytest.mark.parametrize("num_envs", [1, NUM_ENVS])
@pytest.mark.parametrize("name", OPTIONS)
def test_tiny_env_step(benchmark: BenchmarkFixture, name: str, num_envs: int) -> None:
    options = {key: value for key, value in OPTIONS[name].items() if key != "cuda_graphs" or not SMALL}
    make: dict[str, Any] = {"device": DEVICE.type, **options}
    env = gym.make(cc2env.ENV_ID, **make) if num_envs == 1 else gym.make_vec(cc2env.ENV_ID, num_envs, **make)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    action[..., 2], action[..., 4] = 0.1, 0.02
    for _ in range(2 + (2 if SMALL else CALLS_BEFORE + 1)):  # two fill the context; then all is compiled and recorded
        frames = env.step(action)[0]
    seconds = measure(benchmark, lambda: env.step(action))
    benchmark.extra_info["frames_per_second"] = round(frames.size / math.prod(frames.shape[-3:]) / seconds, 1)
    env.close()
