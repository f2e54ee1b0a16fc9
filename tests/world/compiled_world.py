"""What test_acceleration.py runs in a process of its own: compiled networks against plain ones."""

import pickle
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import cc2env
from cc2env.torchrl_env import CameraCtrlWorldTorchRLEnv
from model.vae.video_vae import VideoVAE
from model.world.acceleration import accelerated
from model.world.camera_world import CameraWorld
from model.world.load import load_world
from model.world.networks import read_vae
from model.world.options import WorldOptions

WORLD_BACKEND, VAE_BACKEND = "eager", "aot_eager"  # inductor takes minutes


def fly(world: CameraWorld, seeds: list[int]) -> Tensor:
    """Frames of the opening and of two clips, with contexts of one and of five latents."""
    state, frames = world.start(seeds)
    films, c2w = [frames], torch.eye(4).repeat(len(seeds), world.spec.poses_per_clip, 1, 1)
    for _ in range(2):
        c2w[..., 2, 3] += torch.linspace(0.025, 0.1, world.spec.poses_per_clip)
        state, frames = world.extend(state, c2w)
        films.append(frames)
    return torch.cat(films, dim=1).int()


def check_world(folder: str) -> None:
    """The same frames for one row and for two, from the same weights; a pickle is the plain world."""
    plain, compiled = load_world(folder), load_world(folder, WorldOptions(compile_backend=WORLD_BACKEND))
    assert isinstance(plain, CameraWorld) and isinstance(compiled, CameraWorld)
    for seeds in ([3], [3, 4]):
        assert (fly(plain, seeds) - fly(compiled, seeds)).abs().max() <= 1
    assert torch._dynamo.utils.counters["frames"]["total"] == torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert load_world(folder, WorldOptions(compile_backend=WORLD_BACKEND)).dit is compiled.dit is not plain.dit
    assert all(a is b for a, b in zip(compiled.dit.parameters(), plain.dit.parameters(), strict=True))
    assert (fly(plain, [5]) - fly(pickle.loads(pickle.dumps(compiled)), [5])).abs().max() == 0


@torch.inference_mode()
def check_autoencoder(folder: str) -> None:
    """Chunks from compiled and plain decoders, also in turn, are those of the whole video; so are latents."""
    plain = read_vae(Path(folder)).eval().requires_grad_(False)
    compiled = accelerated(load_world(folder).dit, plain, VAE_BACKEND, False)[1]
    latents, films = torch.randn(1, plain.config.latent_channels, 7, 2, 4), []
    for turns in ((plain, plain, plain), (compiled, compiled, compiled), (plain, compiled, plain)):
        films.append(decode(turns, latents))
    for film in (*films[1:], plain.decode(latents)):
        torch.testing.assert_close(film, films[0], rtol=1e-4, atol=1e-4)
    video = torch.rand(1, 3, 5, 16, 32)
    chunks, cache = [], None
    for part in video.split([1, 4], dim=2):
        z, cache = compiled.encode_chunk(part, cache)
        chunks.append(z)
    torch.testing.assert_close(torch.cat(chunks, dim=2), plain.encode(video), rtol=1e-4, atol=1e-4)


def decode(turns: tuple[VideoVAE, ...], latents: Tensor) -> Tensor:
    """Three chunks, each by another network, with the cache passed on."""
    cache, film = None, []
    for vae, part in zip(turns, latents.split([1, 3, 3], dim=2), strict=True):
        frames, cache = vae.decode_chunk(part, cache)
        film.append(frames)
    return torch.cat(film, dim=2)


def check_environments(folder: str) -> None:
    """Each interface flies the compiled world; an action's frames are the plain environment's."""
    options: dict[str, Any] = {"world": folder, "compile_backend": WORLD_BACKEND}
    env, plain = gym.make(cc2env.ENV_ID, **options), gym.make(cc2env.ENV_ID, world=folder)
    calls: list[int] = []
    load_world(folder, WorldOptions(compile_backend=WORLD_BACKEND)).dit.register_forward_hook(
        lambda *_: calls.append(1)
    )
    plain.action_space.seed(1)
    action, frames = plain.action_space.sample(), []
    for each in (plain, env):
        assert not calls
        each.reset(seed=1)
        frames.append(each.step(action)[0].astype(int))
    assert np.abs(frames[0] - frames[1]).max() <= 1
    vector = gym.make_vec(cc2env.ENV_ID, num_envs=2, **options)
    for use in (lambda: vector.reset(seed=1), lambda: CameraCtrlWorldTorchRLEnv(**options).rollout(1)):
        assert calls
        calls.clear()
        use()
    assert calls


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    check_world(sys.argv[1])
    check_autoencoder(sys.argv[1])
    check_environments(sys.argv[1])
