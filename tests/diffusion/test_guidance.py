"""Guidance equals the three-call formula of Eq. 3, with as few branches as it needs."""

import itertools

import pytest
import torch
from torch import Tensor

from model.diffusion.guidance import guided_velocity

B, F, N, D = 2, 3, 4, 5


class Network:
    """A deterministic stand-in that mixes all its arguments non-linearly and counts rows and calls."""

    def __init__(self) -> None:
        self.rows = 0
        self.calls = 0
        self.cameras: list[Tensor | None] = []

    def __call__(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        self.rows += latents.shape[0]
        self.calls += 1
        self.cameras.append(plucker)
        t = t[:, None] if t.ndim == 1 else t
        hidden = latents * (1 + t[:, None, :, None, None]) + text.square().sum((1, 2))[:, None, None, None, None].sin()
        if plucker is not None:
            hidden = hidden + plucker.cumsum(2).sum(2).sin()[:, None]
        if context_mask is not None:
            hidden = hidden * (2 + context_mask.to(hidden.dtype)[:, None, :, None, None])
        return hidden.tanh()


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "x": normal(B, 2, F, 4, 4),
        "text": normal(B, N, D),
        "null": normal(B, N, D),
        "plucker": normal(B, F, 6, 4, 4),
        "mask": torch.tensor([[True, False, False], [True, True, False]]),
        "t": torch.tensor([0.2, 0.9], dtype=torch.float64),
    }


def naive(i: dict[str, Tensor], w_text: float, w_cam: float, t: Tensor) -> Tensor:
    """Eq. 3 as printed, with zeros for the null camera."""

    def e(text: Tensor, plucker: Tensor) -> Tensor:
        return Network()(i["x"], t, text, plucker, i["mask"])

    none = torch.zeros_like(i["plucker"])
    e_00, e_c0, e_cs = e(i["null"], none), e(i["text"], none), e(i["text"], i["plucker"])
    return e_00 + w_text * (e_c0 - e_00) + w_cam * (e_cs - e_c0)


BRANCHES = {  # (w_text, w_cam): how many of (1 - w_text), (w_text - w_cam), w_cam are not zero
    (7.5, 8.0): 3, (1.0, 1.0): 1, (1.0, 8.0): 2, (8.0, 8.0): 2, (2.0, 0.0): 2,
    (0.0, 0.0): 1, (1.0, 0.0): 1, (0.0, 1.0): 3, (0.5, 0.5): 2, (-1.0, 2.0): 3,
}  # fmt: skip


@pytest.mark.parametrize(("w_text", "w_cam"), BRANCHES)
@pytest.mark.parametrize("per_frame", [False, True])
def test_all_weights_agree_with_three_separate_calls(
    inputs: dict[str, Tensor], w_text: float, w_cam: float, per_frame: bool
) -> None:
    t = inputs["t"]
    if per_frame:
        t = t[:, None].expand(B, F).masked_fill(inputs["mask"], 0.0)
    network = Network()
    guided = guided_velocity(network, inputs["text"], inputs["null"], inputs["plucker"], w_text, w_cam, inputs["mask"])
    torch.testing.assert_close(guided(inputs["x"], t), naive(inputs, w_text, w_cam, t))
    assert network.calls == 1
    assert network.rows == B * BRANCHES[w_text, w_cam]


@pytest.mark.parametrize("no_text", ["none", "null"])
@pytest.mark.parametrize(("w_cam", "branches"), [(8.0, 2), (1.0, 1), (0.0, 1)])
def test_without_text_only_the_camera_guides(
    inputs: dict[str, Tensor], no_text: str, w_cam: float, branches: int
) -> None:
    text = None if no_text == "none" else inputs["null"].clone()
    network = Network()
    guided = guided_velocity(network, text, inputs["null"], inputs["plucker"], 7.5, w_cam, inputs["mask"])
    inputs["text"] = inputs["null"]
    torch.testing.assert_close(guided(inputs["x"], inputs["t"]), naive(inputs, 7.5, w_cam, inputs["t"]))
    assert network.rows == B * branches


@pytest.mark.parametrize(("w_text", "branches"), [(7.5, 2), (1.0, 1), (0.0, 1)])
def test_without_camera_only_the_text_guides_and_the_network_gets_no_map(
    inputs: dict[str, Tensor], w_text: float, branches: int
) -> None:
    network = Network()
    guided = guided_velocity(network, inputs["text"], inputs["null"], None, w_text, 8.0, inputs["mask"])
    inputs["plucker"] = torch.zeros_like(inputs["plucker"])
    torch.testing.assert_close(guided(inputs["x"], inputs["t"]), naive(inputs, w_text, 8.0, inputs["t"]))
    assert network.rows == B * branches
    assert network.cameras == [None]


def test_without_conditions_there_is_one_branch(inputs: dict[str, Tensor]) -> None:
    network = Network()
    guided = guided_velocity(network, None, inputs["null"], None, 7.5, 8.0)
    torch.testing.assert_close(guided(inputs["x"], inputs["t"]), Network()(inputs["x"], inputs["t"], inputs["null"]))
    assert network.rows == B


def test_guidance_of_a_network_deaf_to_its_conditions_is_that_network(inputs: dict[str, Tensor]) -> None:
    def deaf(
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        plucker: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        return latents.sin()

    for w_text, w_cam in itertools.product((0.0, 1.0, 7.5), (0.0, 1.0, 8.0)):
        guided = guided_velocity(deaf, inputs["text"], inputs["null"], inputs["plucker"], w_text, w_cam)
        torch.testing.assert_close(guided(inputs["x"], inputs["t"]), inputs["x"].sin())


def test_branches_without_camera_get_identity_matrices(inputs: dict[str, Tensor]) -> None:
    seen: list[Tensor] = []

    class Watching(Network):
        def __call__(self, *conditions: Tensor, projection: Tensor) -> Tensor:  # type: ignore[override]
            seen.append(projection)
            return super().__call__(*conditions)

    matrices = torch.randn(B, F, 4, 4, dtype=torch.float64)
    guided = guided_velocity(
        Watching(), inputs["text"], inputs["null"], inputs["plucker"], 7.5, 8.0, inputs["mask"], matrices
    )
    torch.testing.assert_close(guided(inputs["x"], inputs["t"]), naive(inputs, 7.5, 8.0, inputs["t"]))
    null = torch.eye(4, dtype=torch.float64).expand(B, F, 4, 4)
    assert torch.equal(seen[0], torch.cat([null, null, matrices]))  # e(0, 0), e(c, 0), e(c, s)
