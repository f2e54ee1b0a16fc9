"""Costs against counts made by hand."""

import pytest

from model.dit.camera_injection import INJECTIONS
from model.dit.video_dit import VideoDiTConfig
from model.evaluation.network_cost import network_cost

SHAPE = {"in_channels": 4, "out_channels": 4, "width": 32, "num_heads": 2, "num_blocks": 3, "ffn_dim": 64}
SHAPE |= {"text_dim": 8, "freq_dim": 8, "patch_size": [1, 1, 1]}
TOKENS = 5 * 4 * 6  # frames, rows, columns


def cost(**changes):
    return network_cost(VideoDiTConfig(**SHAPE, **changes), 4, 6, 1, 4)


def test_the_papers_layer_is_one_matrix_and_one_product() -> None:
    base, first = cost(camera=False), cost()
    assert (base.camera_parameters, first.camera_parameters) == (0, 6 * 32)
    assert first.parameters - base.parameters == 6 * 32
    assert (first.gflops - base.gflops) * 1e9 == pytest.approx(2 * TOKENS * 6 * 32)


def test_every_rival_is_counted() -> None:
    base = cost(camera=False)
    costs = {name: cost(camera_injection=name) for name in INJECTIONS}
    assert costs["every"].camera_parameters == 3 * 6 * 32 and costs["motionctrl"].camera_parameters == 3 * 12 * 32
    assert all(c.parameters - base.parameters == c.camera_parameters > 0 for c in costs.values())
    assert all(c.gflops > base.gflops for c in costs.values())
    assert costs["encoder"].camera_parameters < costs["cameractrl"].camera_parameters
