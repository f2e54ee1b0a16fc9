"""Wan 2.2 A14B's two experts in small: against DiffSynth-Studio's own classes, as a world, and what is refused."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cc2env.testing import check_world
from model.data.video_io import to_float, to_uint8
from model.dit.wan_fun import WanFunDiT
from model.geometry import se3
from model.geometry.plucker import plucker_map
from model.geometry.trajectory import frame_poses
from model.pretrained.original_vae import load_original_vae
from model.pretrained.wan_fun import EXPERTS, load_wan_fun, wan_fun_config
from model.world.load import load_world
from model.world.noise import episode_noise
from model.world.open.wan_fun_config import WanFunWorldConfig
from model.world.open.wan_fun_folder import check_files, memory_needs
from model.world.open.wan_fun_world import WanFunWorld
from model.world.options import WorldOptions

CLOSE = 1e-4
PICTURE = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
PATH = torch.stack([se3.exp(k * torch.tensor([0.02, 0, 0.1, 0.01, 0.05, 0])) for k in (1, 2)])[None]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def copy(published_experts: Path, tmp_path: Path) -> Path:
    """A copy whose files a test may change."""
    return Path(shutil.copytree(published_experts, tmp_path / "copy"))


def flown(folder: Path, **options: Any) -> Tensor:
    world = load_world(folder, WorldOptions(**options))
    return world.extend(world.start([7], ["a red box"], PICTURE)[0], PATH)[1]


def asked(oracle: Any, latents: Tensor, t: float, text: Tensor, maps: Tensor) -> Tensor:
    """The velocity of DiffSynth's class, given the camera as its pipeline's function of the model gives it."""
    first = maps[:, :1].expand(-1, 4, -1, -1, -1)
    control = torch.cat([first, maps[:, 1:]], dim=1).unflatten(1, (-1, 4)).transpose(2, 3).flatten(2, 3).transpose(1, 2)

    def patchify(x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        y = type(oracle).patchify(oracle, x, control)
        return y.flatten(2).transpose(1, 2), y.shape[2:]

    oracle.patchify = patchify
    try:
        velocity: Tensor = oracle(latents, torch.tensor([1000 * t]), text)
        return velocity
    finally:
        del oracle.patchify


@pytest.mark.parametrize("number", [0, 1], ids=EXPERTS)
def test_each_expert_agrees(published_experts: Path, experts: tuple[nn.Module, nn.Module], number: int) -> None:
    folder = published_experts / EXPERTS[number]
    dit = load_wan_fun(folder, wan_fun_config(folder))
    latents, text = torch.randn(1, 36, 3, 4, 6), torch.randn(1, 7, 16)
    maps = plucker_map(se3.exp(torch.randn(1, 9, 6) * 0.3), torch.tensor([[0.55, 0.95, 0.5, 0.5]]), 32, 48)
    camera = dit.control_adapter(maps)
    got = dit(latents, torch.tensor([0.7]), dit.project_text(text), None, camera)
    torch.testing.assert_close(got, asked(experts[number], latents, 0.7, text, maps), atol=CLOSE, rtol=0)
    assert (got - asked(experts[1 - number], latents, 0.7, text, maps)).abs().mean() > 100 * CLOSE


def sampled(
    folder: Path, experts: tuple[nn.Module, nn.Module], vae: nn.Module, texts: list[Tensor], boundary: float
) -> Tensor:
    """The clip as the authors' pipelines make it, of DiffSynth's classes, with the noise of our world."""
    own = load_original_vae(folder / "Wan2.1_VAE.pth").config
    scale = [torch.tensor(own.latents_mean), 1 / torch.tensor(own.latents_std)]
    film = torch.cat([to_float(PICTURE[:, None]), torch.zeros(1, 3, 8, 32, 48)], dim=2)
    mask = torch.zeros(1, 4, 3, 4, 6)
    mask[:, :, 0] = 1
    known = torch.cat([mask, vae.encode(film, scale)], dim=1)
    c2w = torch.cat([torch.eye(4)[None, None], frame_poses(torch.eye(4)[None], PATH, 4)], dim=1)
    lens = torch.tensor([WanFunWorldConfig(height=32, width=48).spec().intrinsics])
    maps = plucker_map(c2w, lens, 32, 48)
    x = episode_noise(torch.tensor([7]), torch.tensor([1]), (16, 3, 4, 6))
    sigmas = torch.linspace(1, 0, 7)
    sigmas = 5 * sigmas / (1 + 4 * sigmas)
    for k, sigma in enumerate(sigmas[:-1].tolist()):
        expert = experts[0 if 1000 * sigma >= 1000 * boundary else 1]
        guided, other = (asked(expert, torch.cat([x, known], dim=1), sigma, text, maps) for text in texts)
        x = x + (sigmas[k + 1] - sigma) * (other + 6 * (guided - other))
    return to_uint8(vae.decode(x, scale))[:, 1:]


def test_a_clip_is_the_one_of_the_authors_sampler(
    published_experts: Path, experts: tuple[nn.Module, nn.Module], networks: SimpleNamespace
) -> None:
    got = flown(published_experts, sampler_steps=6)
    world = load_world(published_experts)
    assert isinstance(world, WanFunWorld)
    texts = [world._encode(["a red box"]), world._negative_text]
    expected, other = (sampled(published_experts, experts, networks.vae, texts, b) for b in (0.9, 0.95))
    assert got.shape == expected.shape
    assert (got.int() - expected.int()).abs().max() <= 1  # the rounding to eight bits
    assert (got.int() - other.int()).abs().max() > 1  # of 6 steps, 0.95 gives one to the other expert


def test_they_keep_the_protocol(copy: Path) -> None:
    settings = yaml.safe_load((copy / "world.yaml").read_text())
    (copy / "world.yaml").write_text(yaml.safe_dump(settings | {"num_frames": 5}))
    check_world(copy, other_process=False)


def test_the_boundary_can_be_moved(copy: Path, published_experts: Path) -> None:
    settings = yaml.safe_load((copy / "world.yaml").read_text())
    (copy / "world.yaml").write_text(yaml.safe_dump(settings | {"boundary": 0.2}))
    assert not torch.equal(flown(copy), flown(published_experts))
    (copy / "world.yaml").write_text(yaml.safe_dump(settings | {"boundary": 1.5}))
    with pytest.raises(ValueError, match=r"boundary: expected 0 to 1, got 1\.5"):
        load_world(copy)


def test_one_transformer_has_no_boundary(published: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    (folder / "world.yaml").write_text("kind: wan_fun\nboundary: 0.9\n")
    with pytest.raises(ValueError, match=r"boundary: expected none, only two experts have one, got 0\.9; leave"):
        load_world(folder)


def test_with_offloading_the_idle_expert_takes_no_memory(published_experts: Path) -> None:
    files, config, card = check_files(published_experts), WanFunWorldConfig(height=32, width=48), torch.device("cuda")
    whole, offloaded = (memory_needs(files, config, card, offload)["transformer"] for offload in (False, True))
    dit = WanFunDiT(files.dit)
    sizes = [sum(weights.nbytes for weights in block.parameters()) for block in dit.blocks]
    one = sum(weights.nbytes for weights in dit.parameters())
    assert (whole, offloaded) == (2 * one, one - sum(sizes) + sizes[0])


def test_an_expert_is_on_the_device_for_its_turn_alone(
    published_experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, turns = load_world(published_experts, WorldOptions(sampler_steps=4, guidance_text=1.0)), []
    assert isinstance(world, WanFunWorld)
    experts, original, forward = world._transformers, WanFunDiT.on_device_without_blocks, WanFunDiT.forward

    def recorded(dit: WanFunDiT, device: torch.device) -> Any:
        turns.append(experts.index(dit))
        return original(dit, device)

    def asked_at(dit: WanFunDiT, *args: Any) -> Tensor:
        assert experts.index(dit) == turns[-1]
        return forward(dit, *args)

    monkeypatch.setattr(WanFunDiT, "on_device_without_blocks", recorded)
    monkeypatch.setattr(WanFunDiT, "forward", asked_at)
    world.start([1], ["a red box"])
    assert turns == [0, 1]
    home = {name: weights.data_ptr() for name, weights in experts[0].named_parameters()}
    with original(experts[0], torch.device("meta")):
        there = {name for name, weights in experts[0].named_parameters() if weights.is_meta}
        assert there == {name for name in home if not name.startswith("blocks.")}
    assert {name: weights.data_ptr() for name, weights in experts[0].named_parameters()} == home


def shard(expert: str, number: int) -> str:
    return f"{expert}/diffusion_pytorch_model-{number:05d}-of-00003.safetensors"


def changed(*names: str, change: Callable[[str, Tensor], Tensor | None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for path in [path for name in names for path in (folder / name).glob("*.safetensors")]:
            tensors = {name: change(name, value) for name, value in load_file(path).items()}
            save_file({name: value for name, value in tensors.items() if value is not None}, path)

    return write


def no_camera(name: str, value: Tensor) -> Tensor | None:
    return None if name.startswith("control_adapter") else value


def fewer_channels(name: str, value: Tensor) -> Tensor:
    return value[:, :32].contiguous() if name == "patch_embedding.weight" else value


EXPERT = "the two experts of a Wan 2.2 A14B model"
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "one expert": (
        lambda folder: shutil.rmtree(folder / EXPERTS[0]),
        f"got one of {EXPERT}; download high_noise_model/ too",
    ),
    "two shards of three": (
        lambda folder: (folder / shard(EXPERTS[1], 2)).unlink(),
        f"{EXPERT}, of which low_noise_model/ holds 2 of 3 shards of its weights; download the others",
    ),
    "no shard": (
        lambda folder: [(folder / shard(EXPERTS[1], number)).unlink() for number in (1, 2, 3)] and None,
        f"{EXPERT}, of which low_noise_model/ holds no weights; download its diffusion_pytorch_model",
    ),
    "eight bits": (
        changed(EXPERTS[0], change=lambda _, value: value.to(torch.float8_e4m3fn)),
        f"{EXPERT}, of which high_noise_model/ holds quantised weights",
    ),
    "no camera": (changed(*EXPERTS, change=no_camera), f"got {EXPERT}, without a camera; use Wan2.2-Fun-A14B"),
    "another shape": (changed(EXPERTS[1], change=fewer_channels), "expected two experts of one shape"),
    "no mask": (changed(*EXPERTS, change=fewer_channels), "expected experts of 36 input channels that read no picture"),
    "no VAE": (lambda folder: (folder / "Wan2.1_VAE.pth").unlink(), "expected Wan 2.1's VAE, Wan2.1_VAE.pth or"),
}


@pytest.mark.parametrize("settings", ["with world.yaml", "as downloaded"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_folder_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch, case: str, settings: str) -> None:
    monkeypatch.setattr("model.world.open.wan_fun_folder.load_wan_fun", None)
    if settings == "as downloaded":
        (copy / "world.yaml").unlink()
    change, message = BROKEN[case]
    change(copy)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        load_world(copy)
    assert str(caught.value).startswith("world: ") and "\n" not in str(caught.value)


def test_a_folder_as_downloaded_is_recognised(copy: Path) -> None:
    (copy / "world.yaml").unlink()
    spec = load_world(copy).spec
    assert (spec.height, spec.width, spec.frames_per_clip, spec.evaluations_per_clip) == (480, 832, 80, 100)
