"""Compiled and recorded networks compute what the plain ones compute, and hold the same weights."""

import copy
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

import cc2env
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from model.checkpoint import load_config
from model.dit import video_dit
from model.dit.projective import ProjectiveEncoding
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.acceleration import CALLS_BEFORE, MOST_GRAPHS, Recorded, accelerated
from model.world.config import WorldConfig
from model.world.folder import world_folder
from model.world.load import assemble_world, build_text_encoder, load_world
from model.world.options import WorldOptions
from model.world.protocol import WorldModel

ROOT = Path(__file__).resolve().parents[2]


class Graphs:
    """`torch.cuda.make_graphed_callables` without a GPU: inputs and results stay where they were at the recording."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, function: Callable[..., Any], buffers: tuple[Tensor, ...], pool: object) -> Callable[..., Any]:
        self.recorded += 1
        results, structure = tree_flatten(function(*buffers))

        def replay(*given: Tensor) -> Any:
            for buffer, tensor in zip(buffers, given, strict=True):
                buffer.copy_(tensor)
            for result, tensor in zip(results, tree_flatten(function(*buffers))[0], strict=True):
                result.copy_(tensor)
            return tree_unflatten([result.detach() for result in results], structure)

        return replay


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    graphs = Graphs()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphs)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return graphs


def fly(world: WorldModel, seeds: list[int], num_clips: int = 3) -> Tensor:
    """Frames of a flight forwards that turns."""
    state, frames = world.start(seeds)
    films, c2w = [frames], torch.eye(4).repeat(len(seeds), world.spec.poses_per_clip, 1, 1)
    for clip in range(num_clips):
        c2w[..., 2, 3] = 0.1 * (clip + torch.linspace(0.25, 1, world.spec.poses_per_clip))
        state, frames = world.extend(state, c2w)
        films.append(frames)
    return torch.cat(films, dim=1)


def difference(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


@pytest.mark.slow
def test_a_compiled_world_shows_the_same_with_the_same_weights(folder: Path) -> None:
    # a process of its own: torch does not trace the checks of shapes that tests are under
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("compiled_world.py")
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True, timeout=500)


def test_a_recorded_world_shows_the_same_bytes(random_world: Any, graphs: Graphs, config: WorldConfig) -> None:
    parts, encoder = (random_world.dit, random_world.vae), build_text_encoder(config.text_encoder, Path("."))
    plain = assemble_world(*parts, encoder, config)
    recorded = assemble_world(*accelerated(*parts, None, True), encoder, config)
    for seeds in ([3], [3, 4]) * 3:
        assert difference(fly(plain, seeds, 6), fly(recorded, seeds, 6)) == 0
    # for one and for two rows: the opening, contexts of 1 and of 5 latents, and the decoder after its first latent
    assert graphs.recorded == 8
    for another in (copy.deepcopy(recorded), pickle.loads(pickle.dumps(recorded))):
        assert difference(fly(plain, [5]), fly(another, [5])) == 0


@torch.inference_mode()
def test_what_a_recorded_function_returns_stays_and_its_numbers_are_part_of_the_shape(graphs: Graphs) -> None:
    recorded = Recorded(lambda pair, *, factor, bias=None: {"y": pair[0] * factor + pair[1]})
    ones, calls = torch.ones(2), CALLS_BEFORE + 2
    results = [recorded((ones * i, ones), factor=2.0)["y"] for i in range(calls)]
    assert torch.stack(results).tolist() == [[2.0 * i + 1] * 2 for i in range(calls)]
    assert graphs.recorded == 1
    assert recorded((ones, ones), factor=3.0)["y"].tolist() == [4.0, 4.0]
    assert recorded((ones.double(), ones), factor=2.0)["y"].dtype == torch.float64
    assert recorded((torch.ones(3), torch.ones(3)), factor=2.0)["y"].tolist() == [3.0] * 3
    assert graphs.recorded == 1


@torch.inference_mode()
def test_shapes_that_were_not_used_for_long_are_recorded_again(graphs: Graphs) -> None:
    recorded = Recorded(torch.neg)
    for size in [1, *range(1, MOST_GRAPHS + 2), 1]:
        for _ in range(CALLS_BEFORE + 1):
            assert recorded(torch.ones(size)).tolist() == [-1.0] * size
    assert graphs.recorded == MOST_GRAPHS + 2


def test_calls_with_gradients_are_not_recorded(graphs: Graphs) -> None:
    recorded, x = Recorded(torch.square), torch.ones(1, requires_grad=True)
    for _ in range(CALLS_BEFORE + 1):
        recorded(x).backward()
    assert graphs.recorded == 0 and x.grad is not None and x.grad.item() == 2 * (CALLS_BEFORE + 1)


class Transfers(TorchFunctionMode):
    """Calls that move numbers between the device and the computer's memory, which a CUDA graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), func.__name__
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if name in ("tensor", "new_tensor", "as_tensor") or any(x.device.type == "cpu" for x in tensors):
            self.found.append(name)
        return result


@torch.inference_mode()
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_what_is_recorded_never_waits_for_the_computer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # meta tensors have no numbers, and raise where one would be read
    b, new, context, h, w = 2, 4, 8, 6, 10
    config, sizes = load_config(world_folder(name) / "dit", VideoDiTConfig), (b, context + new)
    with torch.device("meta"):
        dit = VideoDiT(config)
        vae = VideoVAE(load_config(world_folder(name) / "vae", VideoVAEConfig))
        table = torch.empty(
            sizes[1] * h * w // math.prod(config.patch_size), 1, config.head_dim // 2, dtype=torch.complex64
        )
        monkeypatch.setattr(video_dit, "rotary_table", lambda *shape: table)  # made before the recording
        inputs = {
            "latents": torch.empty(b, config.in_channels, sizes[1], h, w),
            "t": torch.empty(sizes),
            "context_mask": torch.empty(sizes, dtype=torch.bool) if config.mask_channel else None,
            "text_keys": dit.encode_text(torch.empty(b, 24, config.text_dim)),
            "camera_tokens": dit.embed_camera(torch.empty(*sizes, 6, h, w)),
            "projection": ProjectiveEncoding(*torch.empty(3, *sizes, config.head_dim, config.head_dim)),
        }
        latents = torch.empty(b, vae.config.latent_channels, 1 + new, h, w)
        _, cache = vae.continue_decoding(latents[:, :, :1])
    with Transfers() as transfers:
        velocity = dit(**inputs, num_context=context)
        video, _ = vae.continue_decoding(latents[:, :, 1:], cache)
    assert velocity.is_meta and video.is_meta and not transfers.found
    with Transfers() as transfers:
        vae.denormalise(latents)
    assert transfers.found == ["new_tensor"] * 2  # so it is not recorded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"compile_backend": "nonsense"},
            "compile_backend: expected a backend of torch.compile, of .*'inductor'.*, got 'nonsense'",
        ),
        ({"cuda_graphs": True}, "cuda_graphs: expected false on 'cpu', got true; choose device='cuda'"),
    ],
)
def test_an_environment_refuses_what_torch_does_not_have_here(options: dict[str, Any], message: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=message):
            make(cc2env.ENV_ID, **options)
    with pytest.raises(ValueError, match=message):
        CameraCtrlWorldTorchRLEnv(**options)


def test_the_rendered_world_has_nothing_to_compile() -> None:
    with pytest.raises(
        ValueError, match="compile_backend: expected the default, it has no effect on world='synthetic'"
    ):
        load_world("synthetic", WorldOptions(compile_backend="eager"))
