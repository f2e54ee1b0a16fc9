"""Muon orthogonalises, agrees with PyTorch's own; parameters go where they belong; the schedule has known values."""

import pytest
import torch
from torch import nn

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.optim import (
    Muon,
    OptimizerConfig,
    ScheduleConfig,
    build_optimizers,
    is_hidden_matrix,
    learning_rate_share,
    orthogonalize,
    set_learning_rate,
)

SHAPES = [(24, 24), (16, 64), (64, 16), (24, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, *shape), num_steps=8))
    assert values.min() > 0.65 and values.max() < 1.25  # the quintic's band; it does not converge to one


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(1, *shape, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    rotated = u.mT @ orthogonalize(matrix) @ vh.mT
    off_diagonal = rotated - torch.diag_embed(rotated.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-10


def test_gram_form_of_a_matrix_of_low_rank_keeps_its_digits() -> None:
    matrices = torch.randn(2, 16, 3) @ torch.randn(2, 3, 64)
    exact = orthogonalize(matrices.double())
    assert (orthogonalize(matrices) - exact).abs().max() < 1e-3 * exact.abs().max()


def test_orthogonalize_survives_bfloat16_products() -> None:
    # a processor without them computes in float32, and has nothing to survive
    steep = torch.randn(2, 48, 192) * torch.logspace(0, -2, 48)[:, None]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        values = torch.linalg.svdvals(orthogonalize(steep))
    finally:
        torch.set_float32_matmul_precision(before)
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_follows_torch_optim_muon(shape: tuple[int, int]) -> None:
    start = torch.randn(shape)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 1e-2, "momentum": 0.95, "weight_decay": 0.1}
    a = Muon([ours], **settings)
    b = torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved  # theirs rounds to bfloat16: about 1 %


def test_matrices_of_one_shape_do_not_see_each_other() -> None:
    gradients = [torch.randn(8, 8) for _ in range(3)]
    together = [nn.Parameter(torch.ones(8, 8)) for _ in gradients]
    alone = [nn.Parameter(torch.ones(8, 8)) for _ in gradients]
    for a, b, gradient in zip(together, alone, gradients, strict=True):
        a.grad, b.grad = gradient.clone(), gradient.clone()
        Muon([b]).step()
    Muon(together).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_update_has_the_root_mean_square_of_adamw() -> None:
    parameter = nn.Parameter(torch.zeros(64, 32))
    parameter.grad = torch.randn(64, 32)
    Muon([parameter], lr=1.0, weight_decay=0.0).step()
    assert 0.15 < parameter.square().mean().sqrt() < 0.25


@pytest.mark.parametrize("shape", [(3,), (8, 4, 3, 3)])
def test_muon_refuses_what_is_no_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="params: expected matrices"):
        Muon([nn.Parameter(torch.zeros(shape))])


def test_every_parameter_of_the_dit_has_one_optimiser_and_muon_only_hidden_matrices() -> None:
    dit = VideoDiT(VideoDiTConfig(width=24, num_heads=2, num_blocks=2, ffn_dim=48, text_dim=8, freq_dim=16))
    adamw, muon = build_optimizers(dit, OptimizerConfig())
    held = [p for optimizer in (adamw, muon) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(id(p) for p in dit.parameters())
    names = {p: n for n, p in dit.named_parameters()}
    in_muon = [names[p] for group in muon.param_groups for p in group["params"]]
    assert len(in_muon) == 2 * 10  # q k v o, twice, and the two of the feed-forward network, in two blocks
    assert all(name.startswith("blocks.") and name.endswith("weight") for name in in_muon)
    without_decay = [p for g in adamw.param_groups if g["weight_decay"] == 0 for p in g["params"]]
    assert {p.ndim for p in without_decay} == {1}


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blocks.0.attention.q.weight", (4, 4), True),
        ("blocks.0.attention.q.bias", (4,), False),
        ("blocks.0.norm.weight", (4, 4), False),
        ("blocks.0.modulation", (6, 4), False),
        ("camera_embedding.weight", (4, 4), False),
        ("head.linear.weight", (4, 4), False),
    ],
)
def test_hidden_matrices_are_recognised_by_name_and_shape(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert is_hidden_matrix(name, torch.zeros(shape)) is expected


def test_a_setting_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="muon_lr: expected None"):
        build_optimizers(nn.Linear(2, 2), OptimizerConfig(muon=False, muon_lr=1e-3))
    with pytest.raises(ValueError, match=r"muon: expected hidden matrices .* found none in Conv2d; set muon=false"):
        build_optimizers(nn.Conv2d(2, 2, 3), OptimizerConfig())


def test_schedule_of_the_paper_has_its_known_values() -> None:
    config = ScheduleConfig()
    rates = [1e-4 * learning_rate_share(step, 100_500, config) for step in (0, 250, 500, 50_500, 100_500, 200_000)]
    assert rates == pytest.approx([5e-5, 7.5e-5, 1e-4, 5.5e-5, 1e-5, 1e-5])


def test_constant_schedule_stays_at_its_peak() -> None:
    config = ScheduleConfig(warmup_steps=0, cosine=False)
    assert [learning_rate_share(step, 10, config) for step in (0, 5, 10)] == [1.0, 1.0, 1.0]


def test_share_applies_to_each_group_s_own_peak() -> None:
    module = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 3)])})
    optimizers = build_optimizers(module, OptimizerConfig(lr=1e-3, muon_lr=4e-3))
    assert set_learning_rate(optimizers, 0.5) == 5e-4
    assert [g["lr"] for o in optimizers for g in o.param_groups] == [5e-4, 2e-3]
