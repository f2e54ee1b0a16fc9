"""The depth head: shapes and units, what it may look at and what not, and that it can learn a scene's depth."""

import pytest
import torch

from model.geometry import se3
from model.training.depth_step import DepthBatch, DepthPairs, DepthStep
from model.vae.latent_depth import LatentDepth, LatentDepthConfig

LENS = torch.tensor([0.65, 1.08, 0.5, 0.5])


@pytest.fixture
def head() -> LatentDepth:
    torch.manual_seed(0)
    head = LatentDepth(LatentDepthConfig(latent_channels=4, width=8, num_blocks=1, cells=2))
    torch.nn.init.normal_(head.head.weight, std=0.3)  # it starts at zero: the same depth everywhere
    return head.eval()


def inputs(batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    c2w = se3.exp(0.3 * torch.randn(batch, 2, 6, generator=generator))
    return torch.randn(batch, 2, 4, 3, 5, generator=generator), c2w, LENS.expand(batch, 4), torch.ones(batch)


def test_depth_is_metres_for_every_cell(head: LatentDepth) -> None:
    depth = head(*inputs())
    assert depth.shape == (3, 6, 10) and (depth > 0).all() and (depth <= 20).all()
    fresh = LatentDepth(head.config)(*inputs())
    assert torch.allclose(fresh, torch.e * torch.ones(()))


def test_a_frame_that_was_not_there_counts_for_nothing(head: LatentDepth) -> None:
    latents, c2w, lens, _ = inputs()
    none = torch.zeros(3)
    other, elsewhere = latents.clone(), c2w.clone()
    other[:, 0], elsewhere[:, 0] = 5.0, torch.eye(4)
    assert torch.equal(head(latents, c2w, lens, none), head(other, elsewhere, lens, none))
    assert not torch.allclose(head(latents, c2w, lens, none + 1), head(other, c2w, lens, none + 1))


def test_it_does_not_know_where_on_the_ground_it_is(head: LatentDepth) -> None:
    """Else it would learn the scenes of the training set by their places; its height above the start it knows."""
    latents, c2w, lens, before = inputs()
    shifted, lifted = c2w.clone(), c2w.clone()
    shifted[..., 0, 3] += 3
    shifted[..., 2, 3] -= 5
    lifted[..., 1, 3] -= 1
    depth = head(latents, c2w, lens, before)
    assert torch.allclose(head(latents, shifted, lens, before), depth, rtol=1e-4)
    assert not torch.allclose(head(latents, lifted, lens, before), depth, rtol=1e-2)


@pytest.mark.parametrize("bad", [{"width": 0}, {"cells": 0}, {"max_depth": 0.1}])
def test_bad_sizes_name_themselves(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}: expected"):
        LatentDepthConfig(**bad)


def pairs(num_clips: int = 4) -> DepthPairs:
    """Latents that say which clip and frame they are, and depth that follows from them."""
    number = torch.arange(num_clips * 3.0).reshape(num_clips, 3)
    latents = number[:, None, :, None, None].expand(num_clips, 4, 3, 3, 5)
    depth = (1 + number / 4)[..., None, None].expand(num_clips, 3, 6, 10)
    c2w = torch.eye(4).repeat(num_clips, 3, 1, 1)
    c2w[..., 2, 3] = number
    return DepthPairs(latents, c2w, depth, LENS, batch_size=6, seed=0)


def test_pairs_are_a_frame_and_the_one_before() -> None:
    batch = pairs().pairs(torch.tensor([2, 1]), torch.tensor([2, 0]))
    assert batch.latents[:, :, 0, 0, 0].tolist() == [[7, 8], [3, 3]] and batch.latents.shape == (2, 2, 4, 3, 5)
    assert batch.c2w[:, :, 2, 3].tolist() == [[7, 8], [3, 3]] and batch.has_before.tolist() == [1, 0]
    assert batch.depth[:, 0, 0].tolist() == [3.0, 1.75]


def test_batches_are_a_function_of_the_step() -> None:
    data = pairs()
    assert all(torch.equal(a, b) for a, b in zip(data(3, 0), pairs()(3, 0), strict=True))
    assert not torch.equal(data(3, 0).depth, data(4, 0).depth)


def test_the_loss_is_nothing_for_the_truth_and_counts_what_is_near() -> None:
    class Knows(torch.nn.Module):
        factor = 1.0

        def forward(self, latents: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return self.factor * batch.depth

    near, far = torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 9.0)
    batch = DepthBatch(torch.zeros(2, 2, 4, 1, 1), torch.eye(4).repeat(2, 2, 1, 1), LENS.expand(2, 4), torch.ones(2),
                       torch.cat([near, far]))  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    loss, metrics = DepthStep()(Knows(), batch, generator)
    assert loss == 0 and metrics["near_error"] == 0
    module = Knows()
    module.factor = 2.0
    loss, metrics = DepthStep()(module, batch, generator)
    assert loss == pytest.approx(0.6931, abs=1e-4) and metrics["near_error"] == pytest.approx(0.6931, abs=1e-4)


def test_it_learns_depth_from_latents() -> None:
    torch.manual_seed(0)
    head = LatentDepth(LatentDepthConfig(latent_channels=4, width=16, num_blocks=1, cells=2))
    data, step = pairs(), DepthStep(noise=0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for index in range(200):
        loss, _ = step(head, data(index), torch.Generator().manual_seed(index))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.2 * losses[0]
