"""Every way of the camera into the network: nothing at step 0, nothing for the null camera, something afterwards."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor, nn

from model.dit.camera_injection import INJECTIONS
from model.dit.camera_injection.ac3d import sample_camera_times
from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.geometry import se3
from model.geometry.plucker import plucker_map

SHAPE: dict[str, Any] = {"in_channels": 4, "out_channels": 4, "width": 24, "num_heads": 2, "num_blocks": 4}
SHAPE |= {"ffn_dim": 48, "text_dim": 10, "freq_dim": 16}
FRAMES = 3


def network(injection: str, **changes: Any) -> VideoDiT:
    torch.manual_seed(0)
    dit = VideoDiT(VideoDiTConfig(**SHAPE, camera_injection=injection, **changes))
    nn.init.normal_(dit.head.linear.weight, std=0.2)  # a zero head hides all that is behind it
    return dit


def trained(injection: str) -> VideoDiT:
    """The same network after its camera weights have left zero."""
    dit = network(injection)
    assert dit.camera_embedding is not None
    for weight in dit.camera_embedding.parameters():
        nn.init.normal_(weight, std=0.3)
    return dit


def poses(batch: int = 3) -> Tensor:
    return se3.exp(0.5 * torch.randn(batch, FRAMES, 6, generator=torch.Generator().manual_seed(1)))


def inputs_of(dit: VideoDiT, t: float = 0.8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "latents": torch.randn(3, 4, FRAMES, 4, 6, generator=generator),
        "t": torch.full((3, FRAMES), t),
        "text": torch.randn(3, 5, 10, generator=generator),
        **camera_inputs(dit.config, poses(), torch.tensor([0.65, 1.1, 0.5, 0.5]).expand(3, 4), 4, 6),
    }


def without_camera(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in inputs.items() if name != "plucker"}


@pytest.mark.parametrize("injection", INJECTIONS)
@torch.no_grad()
def test_a_base_is_unchanged_at_step_0_to_the_bit(injection: str) -> None:
    base = network("first", camera=False)
    dit = network(injection)
    missing, surplus = dit.load_state_dict(base.state_dict(), strict=False)
    assert not surplus and all(name.startswith("camera_embedding.") for name in missing)
    inputs = inputs_of(dit)
    assert torch.equal(dit(**inputs), base(**without_camera(inputs)))


@pytest.mark.parametrize("injection", INJECTIONS)
@torch.no_grad()
def test_after_training_the_camera_counts_and_the_null_camera_does_not(injection: str) -> None:
    dit = trained(injection)
    inputs = inputs_of(dit)
    seen, unseen = dit(**inputs), dit(**without_camera(inputs))
    assert (seen - unseen).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-3
    inputs["plucker"] = inputs["plucker"].clone()
    inputs["plucker"][1] = 0
    mixed = dit(**inputs)
    torch.testing.assert_close(mixed[1], unseen[1], rtol=0, atol=0)
    torch.testing.assert_close(mixed[[0, 2]], seen[[0, 2]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("injection", INJECTIONS)
@torch.no_grad()
def test_camera_tokens_are_reused_and_context_is_left_out(injection: str) -> None:
    dit = trained(injection)
    inputs = inputs_of(dit)
    whole = dit(**inputs)
    tokens = dit.embed_camera(inputs["plucker"])
    assert torch.equal(dit(**without_camera(inputs), camera_tokens=tokens), whole)
    torch.testing.assert_close(dit(**inputs, num_context=1), whole[:, :, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_the_first_gradient_moves_the_camera_and_later_ones_all_of_it(injection: str) -> None:
    for dit, least in ((network(injection), 1), (trained(injection), None)):
        dit(**inputs_of(dit)).square().mean().backward()
        assert dit.camera_embedding is not None
        grads = {name: p.grad for name, p in dit.camera_embedding.named_parameters()}
        moved = [name for name, grad in grads.items() if grad is not None and grad.abs().max() > 0]
        assert len(moved) >= (len(grads) if least is None else least), set(grads) - set(moved)


@torch.no_grad()
def test_ac3d_gives_the_camera_at_high_noise_alone() -> None:
    dit = trained("ac3d")
    for t, is_given in ((1.0, True), (0.6, True), (0.55, False), (0.1, False)):
        inputs = inputs_of(dit, t)
        inputs["t"] = inputs["t"].clone()
        inputs["t"][:, 0] = 0  # a clean context frame says nothing of the noise
        assert torch.equal(dit(**inputs), dit(**without_camera(inputs))) != is_given


def test_ac3d_trains_at_the_times_of_a_cut_normal_distribution() -> None:
    times = sample_camera_times(20_000, torch.Generator().manual_seed(0))
    low, high = ((end - 0.8) / 0.075 for end in (0.6, 1.0))
    expected = truncnorm(low, high, 0.8, 0.075)
    assert times.min() >= 0.6 and times.max() <= 1
    for share in (0.1, 0.5, 0.9):
        # 20,000 draws: a quantile's standard error is below .001
        assert float(times.quantile(share)) == pytest.approx(expected.ppf(share), abs=4e-3)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_sixteen_bit_weights_and_checkpointing_run(injection: str) -> None:
    dit = trained(injection)
    inputs = inputs_of(dit)
    plain = dit(**inputs)
    dit.gradient_checkpointing = "full"
    torch.testing.assert_close(dit(**inputs), plain)
    half = {name: value.bfloat16() if name != "t" else value for name, value in inputs.items()}
    assert dit.bfloat16()(**half).dtype == torch.bfloat16


@torch.no_grad()
def test_a_network_goes_on_without_camera_attention_with_the_channels_that_it_kept_still() -> None:
    attentive = network("first", camera_attention=True)
    plain = network("first", still_channels=math.floor(12 / 2 / 4) * 4)
    plain.load_state_dict(attentive.state_dict())
    inputs = without_camera(inputs_of(plain))
    assert torch.equal(plain(**inputs), attentive(**inputs))


def test_what_the_network_is_given_of_cameras() -> None:
    c2w, intrinsics = poses(), torch.tensor([0.65, 1.1, 0.5, 0.5]).expand(3, 4)
    rows = camera_inputs(VideoDiTConfig(camera_injection="motionctrl"), c2w, intrinsics, 4, 6)["plucker"]
    assert torch.equal(rows[:, :, :, 2, 3], c2w[:, :, :3].flatten(2)) and rows.shape == (3, FRAMES, 12, 4, 6)
    clip = VideoDiTConfig(camera_reference="clip")
    maps = camera_inputs(clip, c2w, intrinsics, 4, 6, num_context=2)["plucker"]
    first = plucker_map(se3.relative(c2w[:, :1], c2w[:, :2]), intrinsics, 4, 6)
    new = plucker_map(se3.relative(c2w[:, 2:3], c2w[:, 2:]), intrinsics, 4, 6)
    assert torch.equal(maps, torch.cat([first, new], dim=1))
    single = camera_inputs(clip, c2w, intrinsics, 4, 6, num_context=1)["plucker"]
    assert torch.equal(single, plucker_map(c2w, intrinsics, 4, 6))
    assert camera_inputs(VideoDiTConfig(camera=False), c2w, intrinsics, 4, 6) == {}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"camera_injection": "last"}, "camera_injection"),
        ({"camera_injection": "ac3d", "camera": False}, "camera_injection"),
        ({"camera_injection": "encoder", "camera_frequencies": 2}, "camera_frequencies"),
        ({"camera_injection": "motionctrl", "camera_init_std": 0.1}, "camera_init_std"),
        ({"camera_reference": "last"}, "camera_reference"),
        ({"camera_reference": "clip", "camera": False}, "camera_reference"),
        ({"still_channels": 4, "camera_attention": True}, "still_channels"),
        ({"still_channels": 3}, "still_channels"),
    ],
)
def test_a_setting_without_effect_is_named(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        VideoDiTConfig(**SHAPE, **change)
