"""On a CUDA device all comes out as on the CPU, up to the rounding of other kernels, and the same again bit for bit."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import cc2env
from cc2env.snapshot import EnvSnapshot
from model.checkpoint import load_config
from model.data.clips import ClipSetConfig
from model.data.video_io import write_image
from model.diffusion.rectified_flow import velocity_loss
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation.oracle import evaluate_oracle, render_oracle_scenes
from model.evaluation.report import comparison_sheet, summarise
from model.evaluation.video_quality import psnr
from model.geometry import se3
from model.geometry.camera import default_intrinsics, projection_matrix
from model.geometry.plucker import plucker_map
from model.geometry.trajectory import CameraTrajectory
from model.training.ema import ExponentialMovingAverage
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.loop import FitConfig, fit
from model.training.optim import Muon, OptimizerConfig, build_optimizers
from model.training.state import TrainState, generator_for
from model.training.windows import LatentBatch
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.folder import world_folder
from model.world.load import load_world
from model.world.options import WorldOptions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
B, C, F, H, W = 2, 16, 8, 6, 10
NUM_CONTEXT, TEXT = 4, (24, 64)
VAES = {
    "wan": VideoVAEConfig(latent_channels=4, base_dim=8, num_res_blocks=1),
    "tiny": load_config(world_folder("tiny") / "vae", VideoVAEConfig),
}


def relative_error(ours: Tensor, expected: Tensor) -> float:
    return float((ours.cpu().float() - expected.cpu().float()).norm() / expected.cpu().float().norm())


def randomised(module: nn.Module) -> nn.Module:
    """Weights from a fixed seed on the CPU, with no layer at zero, so that every path counts."""
    torch.manual_seed(0)
    for parameter in [*module.parameters(), *module.buffers()]:
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return module


def random_dit() -> VideoDiT:
    """Of the shipped network's shape."""
    dit = randomised(VideoDiT(load_config(world_folder("tiny") / "dit", VideoDiTConfig)))
    assert isinstance(dit, VideoDiT)
    return dit


def clips(step: int = 0, micro: int = 0) -> LatentBatch:
    """Latents along random paths, on the CPU: a function of its arguments."""
    generator = generator_for(CPU, 5, step, micro)
    return LatentBatch(
        latents=torch.randn(B, C, F, H, W, generator=generator),
        c2w=se3.exp(0.3 * torch.randn(B, F, 6, generator=generator)),
        intrinsics=default_intrinsics().expand(B, 4),
        text=torch.randn(B, *TEXT, generator=generator),
        labelled=torch.tensor([True, False]),
    )


@pytest.fixture
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32, which cuDNN may use for float32, would hide errors below a thousandth."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_the_shipped_world_shows_what_it_shows_on_the_cpu() -> None:
    world = load_world("tiny")
    image = world.start([3])[1][:, 0]
    twists = torch.tensor([0.05, 0.0, 0.2, 0.0, 0.05, 0.0]).expand(world.spec.poses_per_clip, 6)
    poses = CameraTrajectory.from_twists(torch.eye(4), twists, default_intrinsics()).c2w[None, 1:]
    films = []
    for device in (CPU, CUDA):
        world = load_world("tiny", WorldOptions(device=device.type))
        state, first = world.start([3], images=image)
        state, frames = world.extend(state, poses)
        assert frames.device.type == state.c2w.device.type == device.type
        films.append(torch.cat([first, frames], dim=1).cpu())
    assert psnr(films[1], films[0]).item() > 35


@pytest.mark.parametrize("collision", ["none", "stop"])
def test_the_environment_steps_and_goes_back_bit_for_bit(collision: str, tmp_path: Path) -> None:
    env = gym.make(cc2env.ENV_ID, device="cuda", collision=collision)
    assert env.reset(seed=0)[0] in env.observation_space
    action = np.full(env.action_space.shape, 0.05, np.float32)
    env.step(action)
    kept = env.unwrapped.snapshot()
    kept.save(tmp_path / "moment")
    frames, *_, info = env.step(action)
    assert isinstance(frames, np.ndarray) and frames in env.observation_space
    for moment in (kept, EnvSnapshot.load(tmp_path / "moment", "cuda")):
        env.unwrapped.restore(moment)
        again, *_, same = env.step(action)
        assert (again == frames).all() and (same["achieved_c2w"] == info["achieved_c2w"]).all()
    env.close()


@pytest.mark.parametrize("compile_backend", [None, "inductor"])
def test_recorded_graphs_show_the_same_bytes_again_and_those_of_single_kernels(compile_backend: str | None) -> None:
    plain = gym.make_vec(cc2env.ENV_ID, num_envs=3, device="cuda")
    recorded = gym.make_vec(cc2env.ENV_ID, num_envs=3, device="cuda", cuda_graphs=True, compile_backend=compile_backend)
    one = gym.make(cc2env.ENV_ID, device="cuda", cuda_graphs=True, compile_backend=compile_backend)  # another batch
    actions = 0.05 * np.random.default_rng(0).standard_normal((8, *plain.action_space.shape)).astype(np.float32)
    films = []
    for env in (plain, recorded, recorded):  # the second flight is recorded on its way, the third replayed
        env.reset(seed=4)
        one.reset(seed=1)
        film = []
        for action in actions:
            film.append(env.step(action)[0])
            one.step(action[0])
        films.append(np.stack(film))
    # the same kernels in the same order; compiled ones round at other places, and errors add up over eight clips
    if compile_backend is None:
        assert (films[1] == films[0]).all()
    assert np.abs(films[1][:2].astype(int) - films[0][:2]).mean() < 1
    assert (films[2] == films[1]).all()


def test_the_oracle_measures_a_world_on_the_device(tmp_path: Path) -> None:
    world = load_world("tiny", WorldOptions(device="cuda"))
    spec = world.spec
    config = ClipSetConfig(num_latents=1 + spec.poses_per_clip, height=spec.height, width=spec.width, fps=spec.fps)
    scenes = render_oracle_scenes(config, 2)
    result = evaluate_oracle(world, world, scenes)
    write_image(tmp_path / "sheet.png", comparison_sheet(scenes, result))
    expected = load_world("tiny")
    # a tenth of a decibel: pixels that round to another byte
    assert summarise(result) == pytest.approx(summarise(evaluate_oracle(expected, expected, scenes)), abs=0.1)


def velocity_and_gradient(device: torch.device, bfloat16: bool) -> tuple[Tensor, Tensor]:
    """The network's answer on given inputs, and all its gradients in one row."""
    dit, batch = random_dit().to(device), LatentBatch(*(value.to(device) for value in clips()))
    context = torch.arange(F, device=device).expand(B, F) < NUM_CONTEXT
    noise = clips(step=1).latents.to(device)
    with torch.autocast(device.type, torch.bfloat16, bfloat16):
        velocity = dit(
            batch.latents,
            torch.tensor([0.3, 0.8], device=device)[:, None] * ~context,
            batch.text,
            plucker_map(batch.c2w.double(), batch.intrinsics.double(), H, W).float(),
            context,
            projection=projection_matrix(batch.c2w.double(), batch.intrinsics.double()).float(),
            num_context=NUM_CONTEXT,
        )
        loss = velocity_loss(velocity, (noise - batch.latents)[:, :, NUM_CONTEXT:]).mean()
    loss.backward()
    return velocity.detach(), torch.cat([p.grad.flatten() for p in dit.parameters() if p.grad is not None])


# bfloat16 keeps 8 bits, so a few roundings in a row are about a hundredth
@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-3), (True, 5e-2)])
def test_velocities_and_gradients_are_those_of_the_cpu(bfloat16: bool, tolerance: float) -> None:
    velocity, gradient = velocity_and_gradient(CPU, bfloat16=False)
    on_cuda = velocity_and_gradient(CUDA, bfloat16)
    assert on_cuda[0].is_cuda and len(on_cuda[1]) == len(gradient)
    assert relative_error(on_cuda[0], velocity) < tolerance
    assert relative_error(on_cuda[1], gradient) < tolerance


@torch.no_grad()
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("config", VAES.values(), ids=VAES.keys())
def test_the_autoencoder_is_the_cpus_and_streams_without_a_seam(
    config: VideoVAEConfig, channels_last: bool, exact_convolutions: None
) -> None:
    on_cpu, on_cuda = (randomised(VideoVAE(config)).eval().to(device) for device in (CPU, CUDA))
    assert isinstance(on_cuda, VideoVAE)
    if channels_last:
        on_cuda.use_channels_last()
    video = torch.rand(2, 3, 13, 16, 24) * 2 - 1
    latents = on_cpu.encode(video)
    whole = on_cuda.decode(latents.to(CUDA))
    assert relative_error(on_cuda.encode(video.to(CUDA)), latents) < 1e-3
    assert relative_error(whole, on_cpu.decode(latents)) < 1e-3
    cache, chunks = None, []
    for part in latents.to(CUDA).split([1, 2, 1], dim=2):
        frames, cache = on_cuda.decode_chunk(part, cache)
        chunks.append(frames)
    assert relative_error(torch.cat(chunks, dim=2), whole) < 1e-3


class Killed(Exception):
    """Stands for a kill: nobody catches it, and nothing is saved."""


def train(folder: Path, bfloat16: bool, killed_at: int | None = None) -> TrainState:
    dit = random_dit().to(CUDA)
    optimizers = build_optimizers(dit, OptimizerConfig(lr=1e-3))
    state = TrainState(module=dit, optimizers=optimizers, ema=ExponentialMovingAverage(dit), seed=11)
    config = FlowMatchingConfig(context_shares={0: 0.5, 4: 0.5})
    step = FlowMatchingStep(config, torch.zeros(TEXT), camera_attention=True)

    def batches(number: int, micro: int) -> LatentBatch:
        if number == killed_at:
            raise Killed
        return clips(number, micro)

    settings = FitConfig(accumulation=2, checkpoint_steps=2, bfloat16=bfloat16, progress=False)
    with sdpa_kernel(SDPBackend.MATH):  # the backward passes of the fused kernels add up in any order
        return fit(step, state, batches, num_steps=5, config=settings, folder=folder)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(bfloat16: bool, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "killed", bfloat16, killed_at=3)  # one update after the last checkpoint
    resumed, whole = train(tmp_path / "killed", bfloat16).tensors(), train(tmp_path / "whole", bfloat16).tensors()
    assert resumed.keys() == whole.keys() and any(tensor.is_cuda for tensor in whole.values())
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_muon_moves_as_on_the_cpu(shape: tuple[int, ...]) -> None:
    start, gradients, moved = torch.randn(shape), torch.randn(3, *shape), []
    for device in (CPU, CUDA):
        parameter = nn.Parameter(start.to(device, copy=True))
        optimizer = Muon([parameter], lr=0.1, weight_decay=0.0)
        for gradient in gradients.to(device):
            parameter.grad = gradient.clone()
            optimizer.step()
        moved.append(parameter.detach().cpu() - start)
    # five iterations in bfloat16 are off by about 1.5 %
    assert relative_error(moved[1], moved[0]) < 0.05
