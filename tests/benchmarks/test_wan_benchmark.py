"""A CUDA device: networks of the full shape of Wan 2.1 1.3B (random weights: equally much work) against their floor,
their FLOPs at the rate of a bfloat16 matrix product measured in the same process; and the shipped tiny world.
"""

import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.flop_counter import FlopCounterMode

import cc2env
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig
from model.training.plan import WindowShape, window_cost
from model.training.stage import StageConfig, train_state
from model.training.windows import LatentBatch
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.load import load_world
from model.world.options import WorldOptions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HEIGHT, WIDTH, TEXT_TOKENS = 60, 104, 512  # latents of 480 x 832
NUM_NEW, NUM_CONTEXT, SOLVER_STEPS = 4, 5, 32
TRAINED = 13  # latent frames of a clip in training, as in wan_phase1
DIT, VAE = VideoDiTConfig(), VideoVAEConfig()


@pytest.fixture(scope="module")
def rate() -> float:
    """FLOP/s of a bfloat16 product of two 8192 x 8192 matrices, the best of several."""
    a, seconds = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16), []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * 8192**3 / min(seconds)


@pytest.fixture(scope="module")
def evaluation_seconds() -> dict[int, float]:
    """By the number of latent frames, what one evaluation of the transformer took."""
    return {}


@pytest.fixture(scope="module")
def dit() -> VideoDiT:
    with torch.device("cuda"):
        network = VideoDiT(DIT).bfloat16()
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    with torch.device("cuda"):
        network = VideoVAE(VAE).bfloat16()
    return network.requires_grad_(False).eval()


def measure(benchmark: BenchmarkFixture, call: Callable[[], object], rounds: int = 5) -> float:
    """The median time, s, of a call and the work it leaves to the device; notes peak memory, all networks in it."""

    def run() -> None:
        call()
        torch.cuda.synchronize()

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1, iterations=1)
    benchmark.extra_info["device"] = torch.cuda.get_device_name()
    benchmark.extra_info["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return float(benchmark.stats.stats.median)


def report(benchmark: BenchmarkFixture, seconds: float, flops: float, rate: float) -> None:
    benchmark.extra_info["tflop"] = round(flops / 1e12, 2)
    benchmark.extra_info["matrix_product_tflop_per_second"] = round(rate / 1e12, 1)
    benchmark.extra_info["ratio_to_floor"] = round(seconds * rate / flops, 2)


# a clip of an episode, and the 81 frames that Wan generates at once
@pytest.mark.parametrize(("frames", "num_context"), [(NUM_CONTEXT + NUM_NEW, NUM_CONTEXT), (21, 0)])
@torch.inference_mode()
def test_wan_evaluation(
    benchmark: BenchmarkFixture,
    dit: VideoDiT,
    rate: float,
    evaluation_seconds: dict[int, float],
    frames: int,
    num_context: int,
) -> None:
    with torch.device("cuda"):
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
    seconds = measure(benchmark, lambda: dit(**inputs, num_context=num_context))
    evaluation_seconds[frames] = seconds
    report(benchmark, seconds, counter.get_total_flops(), rate)


@pytest.mark.parametrize("compile", [None, "inductor"])
def test_wan_training_step(benchmark: BenchmarkFixture, rate: float, compile: str | None) -> None:
    """All parameters, one clip a step, image to video; operations are counted without those that are recomputed."""
    device = torch.device("cuda")
    with device:
        dit = VideoDiT(DIT)
    dit.gradient_checkpointing = "selective"
    loop = FitConfig(bfloat16=True, compile=compile, progress=False)
    state = train_state(dit, StageConfig(optimizer=OptimizerConfig(muon=False), fit=loop), seed=0, device=device)
    windows = FlowMatchingConfig(context_shares={1: 1.0}, num_new=TRAINED - 1, reference_jitter=0.0)
    step_fn = FlowMatchingStep(windows, torch.zeros(TEXT_TOKENS, DIT.text_dim, device=device), dit=DIT)
    clip = LatentBatch(
        latents=torch.randn(1, DIT.in_channels, TRAINED, HEIGHT, WIDTH),
        c2w=torch.eye(4).expand(1, TRAINED, 4, 4),
        intrinsics=torch.tensor([[0.6, 1.0, 0.5, 0.5]]),
        text=torch.randn(1, TEXT_TOKENS, DIT.text_dim),
        labelled=torch.ones(1, dtype=torch.bool),
    )
    clip, starts = LatentBatch(*(tensor.to(device) for tensor in clip)), []

    def batches(step: int, micro: int) -> LatentBatch:
        torch.cuda.synchronize()
        starts.append(time.perf_counter())
        return clip

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    benchmark.pedantic(lambda: fit(step_fn, state, batches, num_steps=12, config=loop), rounds=1)
    seconds = float(np.median(np.diff(starts)[3:]))  # the first ones compile, and make AdamW's moments
    flops = window_cost(DIT, WindowShape(TRAINED, 1, HEIGHT, WIDTH, TEXT_TOKENS), "none").training
    report(benchmark, seconds, flops, rate)
    benchmark.extra_info["seconds"] = round(seconds, 3)
    benchmark.extra_info["share_of_the_rate"] = round(flops / seconds / rate, 3)
    benchmark.extra_info["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


@torch.inference_mode()
def test_wan_decoding_of_a_clip(
    benchmark: BenchmarkFixture, vae: VideoVAE, rate: float, evaluation_seconds: dict[int, float]
) -> None:
    """Four latents, 16 frames; with the evaluations measured before, frames a second of a clip without guidance."""
    latents = torch.randn(1, VAE.latent_channels, 1 + NUM_NEW, HEIGHT, WIDTH, device="cuda", dtype=torch.bfloat16)
    _, cache = vae.decode_chunk(latents[:, :, :1])
    with FlopCounterMode(display=False) as counter:
        video, _ = vae.decode_chunk(latents[:, :, 1:], cache)
    num_frames = video.shape[2]
    del video
    seconds = measure(benchmark, lambda: vae.decode_chunk(latents[:, :, 1:], cache))
    report(benchmark, seconds, counter.get_total_flops(), rate)
    benchmark.extra_info["decoded_frames_per_second"] = round(num_frames / seconds, 1)
    if NUM_CONTEXT + NUM_NEW in evaluation_seconds:  # not where this test runs alone
        clip = SOLVER_STEPS * evaluation_seconds[NUM_CONTEXT + NUM_NEW] + seconds
        benchmark.extra_info[f"clip_frames_per_second_{SOLVER_STEPS}_steps"] = round(num_frames / clip, 2)


def test_tiny_env_step(benchmark: BenchmarkFixture) -> None:
    env = gym.make(cc2env.ENV_ID, device="cuda")
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, 2], action[:, 4] = 0.1, 0.02
    frames = env.step(action)[0]  # from here on the context window is full
    seconds = measure(benchmark, lambda: env.step(action))
    benchmark.extra_info["frames_per_second"] = round(len(frames) / seconds, 1)
    env.close()


@pytest.mark.parametrize("batch", [64])
def test_tiny_extend(benchmark: BenchmarkFixture, batch: int) -> None:
    world = load_world("tiny", WorldOptions(device="cuda"))
    poses = torch.eye(4).repeat(batch, world.spec.poses_per_clip, 1, 1)
    state, _ = world.extend(world.start(range(batch))[0], poses)
    seconds = measure(benchmark, lambda: world.extend(state, poses))
    benchmark.extra_info["frames_per_second"] = round(batch * world.spec.frames_per_clip / seconds, 1)
