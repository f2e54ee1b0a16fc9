"""The teacher's flights are what its world generates, and a pure function of seed and step."""

import dataclasses
from pathlib import Path

import pytest
import torch

from model.distillation.flights import Flight, FlightsConfig, MixedBatches, flights_of, fly_latents, long_paths
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.geometry import se3
from model.text.tiny_vocabulary import TinyVocabularyEncoder
from model.training.latent_set import LatentBatches
from model.training.windows import LatentBatch
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import WorldConfig

WORLD = WorldConfig(height=16, width=32, context_latents=4, memory_latents=2, sampler=SamplerConfig(num_steps=2))


def dit() -> VideoDiT:
    torch.manual_seed(0)
    sizes = {"in_channels": 4, "out_channels": 4, "width": 24, "num_heads": 2, "num_blocks": 1}
    network = VideoDiT(VideoDiTConfig(**sizes, ffn_dim=32, text_dim=8, freq_dim=8))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    return network.requires_grad_(False).eval()


def paths(batch: int, length: int) -> torch.Tensor:
    steps = se3.exp(0.1 * torch.randn(batch, length - 1, 6, generator=torch.Generator().manual_seed(1)))
    path = [torch.eye(4).expand(batch, 4, 4)]
    for k in range(length - 1):
        path.append(path[-1] @ steps[:, k])
    return torch.stack(path, dim=1)


class Clips(LatentBatches):
    """A few clips, in order."""

    def __init__(self) -> None:
        self.batch_size, self.rank = 2, 0
        torch.manual_seed(2)
        self.batch = LatentBatch(
            torch.randn(5, 4, 9, 2, 4),
            paths(5, 9),
            torch.tensor([0.65, 1.0, 0.5, 0.5]).expand(5, 4).clone(),
            torch.randn(5, 3, 8),
            torch.tensor([True, True, False, True, True]),
        )
        self.latents, self.labelled = self.batch.latents, self.batch.labelled

    def take(self, rows: torch.Tensor) -> LatentBatch:
        return LatentBatch(*(value[rows] for value in self.batch))

    def __call__(self, step: int, micro: int = 0) -> LatentBatch:
        return self.take(torch.tensor([step % 5, micro % 5]))


def test_a_long_path_goes_on_along_the_next_rows_from_where_it_is() -> None:
    c2w = paths(3, 5)
    long = long_paths(c2w, 12)
    assert long.shape == (3, 12, 4, 4)
    torch.testing.assert_close(long[:, :5], c2w)
    torch.testing.assert_close(se3.relative(long[1, 4], long[1, 8]), c2w[0, 4])  # row 1 goes on along row 0's path
    torch.testing.assert_close(se3.relative(long[0, 8], long[0, 11]), c2w[1, 3])  # and the third piece is row 1's


@pytest.mark.parametrize("context_noise", [0.0, 0.3])
def test_a_flight_is_what_the_world_generates(context_noise: float) -> None:
    config = dataclasses.replace(WORLD, sampler=SamplerConfig(num_steps=2, context_noise=context_noise))
    network, encoder = dit(), TinyVocabularyEncoder(["red"], 8, 3)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1])).eval()
    settings = {"sampler": config.sampler, "context_latents": 4, "memory_latents": 2, "memory_capacity": 64}
    world = CameraWorld(network, vae, encoder, config.spec(), **settings)
    images = torch.randint(256, (2, 16, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    state, _ = world.start([7, 8], ["red", "red"], images)
    first, c2w = state.memory["window", "latents"][:, :, -1:], paths(2, 13)
    for k in range(1, 13, 4):
        state, _ = world.extend(state, c2w[:, k : k + 4])
    start = LatentBatch(first, c2w, state.intrinsics, state.memory["text"], torch.ones(2, dtype=torch.bool))
    flown = fly_latents(network, Flight(start, c2w, encoder.null(1)[0], config, torch.tensor([7, 8])))
    torch.testing.assert_close(flown, state.memory["window", "latents"][:, :, -13:])


def test_flights_are_flown_once_and_read_again(tmp_path: Path) -> None:
    config, file = (
        FlightsConfig(share=0.5, num_flights=3, num_clips=3, batch_size=2),
        tmp_path / "run/flights.safetensors",
    )
    arguments = (torch.zeros(3, 8), WORLD, config, file, 0)
    flights = flights_of(dit(), Clips(), *arguments)
    assert flights.latents.shape == (3, 4, 13, 2, 4) and flights.c2w.shape == (3, 13, 4, 4)
    assert bool(flights.labelled.all())  # only clips with a camera lend their paths
    broken = dit().apply(lambda module: [p.fill_(float("nan")) for p in module.parameters(recurse=False)])
    again = flights_of(broken, Clips(), *arguments)
    for one, other in zip(flights, again, strict=True):
        assert torch.equal(one, other)


def test_batches_are_mixed_by_step_alone() -> None:
    flights = LatentBatch(*(value[:1].expand(4, *value.shape[1:]) for value in Clips().batch))._replace(
        latents=torch.full((4, 4, 13, 2, 4), 5.0)
    )
    mixed = MixedBatches(Clips(), flights, share=0.25, seed=3)
    of_flights = [bool((mixed(step).latents == 5).all()) for step in range(200)]
    assert 30 <= sum(of_flights) <= 70
    assert of_flights == [bool((mixed(step).latents == 5).all()) for step in range(200)]
    assert len(mixed(of_flights.index(True)).latents) == 2


@pytest.mark.parametrize("change", [{"share": 1.5}, {"num_flights": 0}, {"num_clips": 0}, {"batch_size": 0}])
def test_numbers_out_of_range_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^flights.{next(iter(change))}: expected"):
        FlightsConfig(**change)  # type: ignore[arg-type]
