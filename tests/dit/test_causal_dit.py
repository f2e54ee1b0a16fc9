"""The causal network with stored keys and values is one plain pass over the whole film under a mask."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.dit.causal_dit import CausalDiT
from model.dit.video_dit import VideoDiTConfig
from model.geometry import se3
from model.geometry.camera import projection_matrix

CHUNK, WINDOW, NUM_CHUNKS, HEIGHT, WIDTH, UNIT = 2, 6, 5, 4, 6, 0.5
INTRINSICS = torch.tensor([[0.505, 0.898, 0.5, 0.5]])


@pytest.fixture(scope="module")
def dit() -> CausalDiT:
    torch.manual_seed(2)
    shape = VideoDiTConfig(in_channels=3, out_channels=3, width=24, num_heads=2, num_blocks=2, ffn_dim=20, text_dim=5,
                           freq_dim=8, camera=False, mask_channel=False)  # fmt: skip
    network = CausalDiT(shape).requires_grad_(False).eval()
    for parameter in network.parameters():
        parameter.normal_(std=0.3)
    return network


class Film:
    """A film of chunks, all clean but the last, and its camera."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        frames = CHUNK * NUM_CHUNKS
        self.latents = torch.randn(1, 3, frames, HEIGHT, WIDTH, generator=generator)
        self.c2w = se3.exp(0.3 * torch.randn(1, frames, 6, generator=generator))
        self.text = torch.randn(1, 4, 5, generator=generator)
        self.last_time = 0.625


def cached(dit: CausalDiT, film: Film) -> Tensor:
    """The last chunk's velocity, chunk by chunk."""
    past: list[tuple[Tensor, Tensor]] = []
    tokens = CHUNK * HEIGHT * WIDTH // 4
    for index in range(NUM_CHUNKS):
        end = CHUNK * (index + 1)
        t = torch.tensor([film.last_time if index == NUM_CHUNKS - 1 else 0.0])
        projection = projection_matrix(film.c2w[:, max(0, end - WINDOW) : end], INTRINSICS, UNIT)
        chunk = film.latents[:, :, end - CHUNK : end]
        velocity, own = dit(chunk, t, dit.encode_text(film.text), projection, past)
        kept = (WINDOW // CHUNK - 1) * tokens
        past = [
            (torch.cat([k, new_k], 1)[:, -kept:], torch.cat([v, new_v], 1)[:, -kept:])
            for (k, v), (new_k, new_v) in zip(past or [(n[0][:, :0], n[1][:, :0]) for n in own], own, strict=True)
        ]
    return velocity


class Plain:
    """The whole film at once in float64, each formula written out: absolute positions and poses, a mask, no cache."""

    def __init__(self, dit: CausalDiT) -> None:
        self.config = dit.config
        self.weights = {name: weight.double() for name, weight in dit.state_dict().items()}

    def velocity(self, film: Film) -> Tensor:
        config, frames = self.config, film.latents.shape[2]
        weight, bias = self.weights["patch_embedding.weight"], self.weights["patch_embedding.bias"]
        x = F.conv3d(film.latents.double(), weight, bias, stride=(1, 2, 2)).flatten(3).permute(0, 2, 3, 1)
        t = torch.zeros(frames, dtype=torch.float64)
        t[-CHUNK:] = film.last_time
        angle = 1000 * t[:, None] * 1e4 ** -(torch.arange(config.freq_dim // 2) / (config.freq_dim / 2)).double()
        waves = torch.cat([angle.cos(), angle.sin()], dim=1)
        embedding = self.linear("time_embedding.linear_2", F.silu(self.linear("time_embedding.linear_1", waves)))
        six = self.linear("time_embedding.to_modulation", F.silu(embedding)).view(frames, 1, 6, config.width)
        text = self.linear("text_projection.linear_1", film.text.double())
        text = self.linear("text_projection.linear_2", F.gelu(text, approximate="tanh"))
        for index in range(config.num_blocks):
            x = self.block(f"blocks.{index}.", index, x, six, text, film)
        shift, scale = (self.weights["head.modulation"].unsqueeze(1) + embedding[:, None, None]).unbind(2)
        out = self.linear("head.linear", self.norm(x) * (1 + scale) + shift)[:, -CHUNK:]
        out = out.view(1, CHUNK, HEIGHT // 2, WIDTH // 2, 2, 2, 3)
        return out.permute(0, 6, 1, 2, 4, 3, 5).reshape(1, 3, CHUNK, HEIGHT, WIDTH)

    def block(self, name: str, index: int, x: Tensor, six: Tensor, text: Tensor, film: Film) -> Tensor:
        a, b, c, d, e, f = (self.weights[name + "modulation"] + six).unbind(2)
        x = x + c * self.self_attention(name + "self_attention.", index, self.norm(x) * (1 + b) + a, film)
        y = self.norm(x) * self.weights[name + "text_norm.weight"] + self.weights[name + "text_norm.bias"]
        x = x + self.text_attention(name + "text_attention.", y.flatten(1, 2), text).view(x.shape)
        y = F.gelu(self.linear(name + "feed_forward.linear_1", self.norm(x) * (1 + e) + d), approximate="tanh")
        return x + f * self.linear(name + "feed_forward.linear_2", y)

    def self_attention(self, name: str, index: int, y: Tensor, film: Film) -> Tensor:
        frames, tokens = y.shape[1:3]
        q, k, v = self.heads(name, y.flatten(1, 2), y.flatten(1, 2))
        frame = torch.arange(frames).repeat_interleave(tokens)
        end = (frame // CHUNK + 1) * CHUNK  # of a query's chunk
        seen = (frame[None] < end[:, None]) & (frame[None] >= end[:, None] - WINDOW)
        turned = self.attend(self.turn(q), self.turn(k), v, seen)
        w2c = torch.linalg.inv(film.c2w[0].double())
        w2c[:, :3, 3] /= UNIT
        lens = torch.diag(torch.tensor([*INTRINSICS[0, :2], 1, 1], dtype=torch.float64))
        image = (lens @ w2c)[frame]  # of each token
        inverse = torch.linalg.inv(image)
        by_fours = [
            (matrix @ each.view(*each.shape[:2], -1, 4).mT).mT.reshape(each.shape)
            for matrix, each in ((image.mT, q), (inverse, k), (inverse, v))
        ]
        seen_from = self.attend(*by_fours, seen)
        seen_from = (image @ seen_from.view(*seen_from.shape[:2], -1, 4).mT).mT.reshape(seen_from.shape)
        out = self.linear(name + "out", self.joined(turned))
        return (out + self.linear(f"projective_out.{index}", self.joined(seen_from))).view(y.shape)

    def text_attention(self, name: str, y: Tensor, text: Tensor) -> Tensor:
        q, k, v = self.heads(name, y, text)
        return self.linear(name + "out", self.joined(self.attend(q, k, v, torch.ones(1, 1, dtype=torch.bool))))

    def heads(self, name: str, x: Tensor, source: Tensor) -> tuple[Tensor, ...]:
        """[heads, tokens, channels] of queries, keys and values."""
        q, k = (
            F.rms_norm(self.linear(name + part, of), of.shape[-1:], self.weights[f"{name}{part}_norm.weight"], 1e-6)
            for part, of in (("query", x), ("key", source))
        )
        return tuple(
            each[0].unflatten(-1, (self.config.num_heads, -1)).transpose(0, 1)
            for each in (q, k, self.linear(name + "value", source))
        )

    def turn(self, x: Tensor) -> Tensor:
        """Wan's rotary embedding with absolute positions."""
        shape = (CHUNK * NUM_CHUNKS, HEIGHT // 2, WIDTH // 2)
        grid = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        c = x.shape[-1]
        spatial = 2 * (c // 6)
        angles = [
            position.flatten()[:, None] * 1e4 ** -(torch.arange(0, n, 2).double() / n)
            for position, n in zip(grid, (c - 2 * spatial, spatial, spatial), strict=True)
        ]
        angle = torch.cat(angles, dim=1)
        even, odd = x[..., ::2], x[..., 1::2]
        pairs = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
        return torch.stack(pairs, dim=-1).flatten(-2)

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        return (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf).softmax(-1) @ v

    @staticmethod
    def joined(heads: Tensor) -> Tensor:
        return heads.transpose(0, 1).flatten(1).unsqueeze(0)

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]


def test_stored_keys_and_values_are_one_pass_over_the_whole_film(dit: CausalDiT) -> None:
    film = Film()
    torch.testing.assert_close(cached(dit, film), Plain(dit).velocity(film).float(), rtol=1e-4, atol=1e-4)


def test_the_camera_of_a_stored_frame_matters_and_the_world_frame_does_not(dit: CausalDiT) -> None:
    film, moved, other = Film(), Film(), Film()
    moved.c2w = se3.exp(torch.tensor([0.3, -0.2, 0.5, 0.2, 0.9, -0.1])) @ film.c2w
    other.c2w[:, -WINDOW] = se3.exp(torch.tensor([0.3, -0.2, 0.5, 0.2, 0.9, -0.1])) @ film.c2w[:, -WINDOW]
    expected = cached(dit, film)
    torch.testing.assert_close(cached(dit, moved), expected, rtol=1e-3, atol=1e-3)
    assert (cached(dit, other) - expected).abs().max() > 0.01
