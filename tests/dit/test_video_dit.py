"""Properties of the whole network: zero additions change nothing, rows are independent, every input counts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.dit import VideoDiT, VideoDiTConfig
from model.dit.gradient_checkpointing import GRADIENT_CHECKPOINTING
from model.dit.projective import projective_encoding
from model.geometry import se3
from model.geometry.camera import projection_matrix

SHAPE: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "width": 24,
    "num_heads": 2,
    "num_blocks": 2,
    "ffn_dim": 48,
    "text_dim": 10,
    "freq_dim": 16,
}


def random_dit(**changes: Any) -> VideoDiT:
    """Wan's initialisation, but a head that is not zero (a zero head hides everything behind it)."""
    dit = VideoDiT(VideoDiTConfig(**(SHAPE | changes)))
    nn.init.normal_(dit.head.linear.weight, std=0.2)
    return dit


def with_additions(dit: VideoDiT) -> VideoDiT:
    """The same network after its camera layer and mask channel have left zero."""
    assert dit.camera_embedding is not None and dit.mask_embedding is not None
    nn.init.normal_(dit.camera_embedding.patchify.weight, std=0.3)
    nn.init.normal_(dit.mask_embedding.weight, std=0.3)
    return dit


def example(batch: int = 3, frames: int = 3) -> dict[str, Tensor]:
    return {
        "latents": torch.randn(batch, 4, frames, 4, 6),
        "t": torch.rand(batch, frames),
        "text": torch.randn(batch, 5, 10),
        "plucker": torch.randn(batch, frames, 6, 4, 6),
        "context_mask": torch.arange(frames).expand(batch, frames) < 1,
    }


@torch.no_grad()
def test_zero_camera_layer_and_zero_mask_channel_change_not_a_bit() -> None:
    dit, inputs = random_dit(), example()
    base = dit(inputs["latents"], inputs["t"], inputs["text"])
    assert torch.equal(dit(**inputs), base)


@torch.no_grad()
def test_null_camera_is_the_zero_map_also_after_training() -> None:
    dit, inputs = with_additions(random_dit()), example()
    inputs["plucker"] = torch.zeros_like(inputs["plucker"])
    without = {name: value for name, value in inputs.items() if name != "plucker"}
    assert torch.equal(dit(**inputs), dit(**without))


def cameras(batch: int = 3, frames: int = 3) -> Tensor:
    poses = se3.exp(0.5 * torch.randn(batch, frames, 6, generator=torch.Generator().manual_seed(0)))
    return projection_matrix(poses, torch.tensor([0.65, 1.1, 0.5, 0.5]).expand(batch, 4))


@torch.no_grad()
def test_camera_attention_knows_relative_cameras_and_not_the_world_frame() -> None:
    dit, inputs = random_dit(camera_attention=True), example()
    projection = cameras()
    moved = projection @ se3.exp(torch.tensor([0.5, -0.2, 1.0, 0.1, 0.8, -0.3]))
    seen = dit(**inputs, projection=projection)
    torch.testing.assert_close(dit(**inputs, projection=moved), seen, rtol=1e-3, atol=1e-3)
    assert torch.equal(dit(**inputs, projection=projective_encoding(projection, 12)), seen)
    null = dit(**inputs, projection=torch.eye(4).expand(3, 3, 4, 4))
    torch.testing.assert_close(null, dit(**inputs))
    assert (null - seen).abs().max() > 1e-2


@torch.no_grad()
def test_an_all_false_mask_is_no_mask() -> None:
    dit, inputs = with_additions(random_dit()), example()
    inputs["context_mask"] = torch.zeros_like(inputs["context_mask"])
    without = {name: value for name, value in inputs.items() if name != "context_mask"}
    assert torch.equal(dit(**inputs), dit(**without))


@torch.no_grad()
def test_mask_embedding_is_one_more_input_channel_of_the_patchify_convolution() -> None:
    dit, inputs = with_additions(random_dit()), example()
    assert dit.mask_embedding is not None and dit.patch_embedding.bias is not None
    mask = inputs["context_mask"].float()[:, None, :, None, None].expand(-1, 1, -1, 4, 6)
    widened = torch.cat([dit.patch_embedding.weight, dit.mask_embedding.weight], dim=1)
    tokens = nn.functional.conv3d(
        torch.cat([inputs["latents"], mask], dim=1), widened, dit.patch_embedding.bias, stride=(1, 2, 2)
    )
    ours = dit.patch_embedding(inputs["latents"]) + dit.mask_embedding(mask)
    torch.testing.assert_close(ours, tokens.flatten(3).permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["latents", "t", "text", "plucker", "context_mask"])
@torch.no_grad()
def test_every_input_counts(name: str) -> None:
    dit, inputs = with_additions(random_dit()), example()
    before = dit(**inputs)
    value = inputs[name]
    inputs[name] = ~value if value.dtype == torch.bool else value.flip(0)
    assert (dit(**inputs) - before).abs().max() > 1e-3


@torch.no_grad()
def test_one_timestep_per_frame_equals_one_per_sample() -> None:
    dit, inputs = with_additions(random_dit()), example()
    inputs["t"] = torch.rand(3)
    per_frame = inputs | {"t": inputs["t"][:, None].expand(3, 3)}
    torch.testing.assert_close(dit(**per_frame), dit(**inputs), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other() -> None:
    dit, inputs, order = with_additions(random_dit()), example(), torch.tensor([2, 0, 1])
    permuted = {name: value[order] for name, value in inputs.items()}
    torch.testing.assert_close(dit(**permuted), dit(**inputs)[order], rtol=1e-5, atol=1e-5)
    single = {name: value[1:2] for name, value in inputs.items()}
    torch.testing.assert_close(dit(**single), dit(**inputs)[1:2], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_reused_text_and_camera_tokens_give_the_same_bits() -> None:
    dit, inputs = with_additions(random_dit()), example()
    tokens = {"text_keys": dit.encode_text(inputs["text"]), "camera_tokens": dit.embed_camera(inputs["plucker"])}
    kept = {name: inputs[name] for name in ("latents", "t", "context_mask")}
    assert torch.equal(dit(**kept, **tokens), dit(**inputs))


def test_the_first_gradient_reaches_the_camera_layer_and_the_mask_channel() -> None:
    dit = random_dit()
    dit(**example()).square().mean().backward()
    assert dit.camera_embedding is not None and dit.mask_embedding is not None
    assert dit.camera_embedding.patchify.weight.grad.abs().max() > 0
    assert dit.mask_embedding.weight.grad.abs().max() > 0


def test_every_parameter_learns() -> None:
    dit = with_additions(random_dit())
    dit(**example()).square().mean().backward()
    silent = [name for name, p in dit.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias that is added to every key moves all scores of a query alike, which softmax cannot see, but RMSNorm can.
    assert silent == []


def test_a_new_network_predicts_zero_velocity() -> None:
    assert VideoDiT(VideoDiTConfig(**SHAPE))(**example()).abs().max() == 0


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    dit, inputs = with_additions(random_dit()), example()
    gradients = []
    for dit.gradient_checkpointing in GRADIENT_CHECKPOINTING:
        dit.zero_grad()
        dit(**inputs).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in dit.named_parameters() if p.grad is not None})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_selective_checkpointing_computes_all_but_the_attention_again() -> None:
    dit = VideoDiT(VideoDiTConfig(**{**SHAPE, "patch_size": [1, 1, 1]}))
    counts = {}
    for dit.gradient_checkpointing in GRADIENT_CHECKPOINTING:
        with CountedAttention() as counted:  # 120 tokens: more than are attended to by plain products
            dit(torch.randn(1, 4, 5, 4, 6), torch.rand(1), torch.randn(1, 7, SHAPE["text_dim"])).sum().backward()
        counts[dit.gradient_checkpointing] = counted.num
    assert counts["none"] == counts["selective"] == SHAPE["num_blocks"] and counts["full"] == 2 * SHAPE["num_blocks"]


class CountedAttention(TorchDispatchMode):
    """Counts how often the fused attention of CPUs runs forward."""

    num = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.num += operation is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return operation(*args, **(kwargs or {}))


def test_training_after_sampling_under_inference_mode() -> None:
    dit, inputs = with_additions(random_dit()), example(frames=7)  # a shape whose rotary table is not cached yet
    with torch.inference_mode():
        dit(**inputs)
    dit(**inputs).square().mean().backward()


@pytest.mark.parametrize("camera_attention", [False, True])
@torch.no_grad()
def test_sixteen_bit_weights_follow_the_float32_network(camera_attention: bool) -> None:
    dit, inputs = with_additions(random_dit(camera_attention=camera_attention)), example()
    if camera_attention:
        inputs["projection"] = cameras()  # stays float32: its inverse would not survive 8 bits
    expected = dit(**inputs)
    dit.bfloat16()
    half = {k: v.bfloat16() if k in ("latents", "text", "plucker") else v for k, v in inputs.items()}
    out = dit(**half)
    assert out.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits: 0.4 % a rounding, a few dozen roundings in a row
    assert (out.float() - expected).abs().max() < 0.1 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("camera_attention", [False, True])
@pytest.mark.parametrize("per_frame_times", [False, True])
def test_leaving_the_context_out_changes_nothing_in_the_rest(camera_attention: bool, per_frame_times: bool) -> None:
    dit, inputs = with_additions(random_dit(camera_attention=camera_attention)), example(frames=5)
    if not per_frame_times:
        inputs["t"] = torch.rand(3)
    if camera_attention:
        inputs["projection"] = cameras(3, 5)
    whole = dit(**inputs)
    for num_context in (1, 4):
        torch.testing.assert_close(dit(**inputs, num_context=num_context), whole[:, :, num_context:])


def test_leaving_the_context_out_changes_no_gradient() -> None:
    dit, inputs = with_additions(random_dit(camera_attention=True)), example(frames=3)
    inputs["projection"] = cameras()
    gradients = []
    for checkpointing in ("none", "full"):
        for num_context in (0, 2):
            dit.gradient_checkpointing = checkpointing
            dit.zero_grad()
            dit(**inputs, num_context=num_context)[:, :, -1].square().sum().backward()
            gradients.append([p.grad for p in dit.parameters()])
    for others in gradients[1:]:
        torch.testing.assert_close(others, gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(3, 5, 3, 4, 6)}, "latents: expected .*got .3, 5, 3, 4, 6"),
        ({"latents": torch.zeros(3, 4, 3, 5, 6), "plucker": None}, "latents: expected"),
        ({"text": torch.zeros(3, 5, 11)}, "text: expected 10 channels, got 11"),
        ({"text": None}, "text: expected exactly one"),
        ({"text_keys": []}, "text: expected exactly one"),
        ({"projection": torch.eye(4).expand(3, 3, 4, 4)}, "projection: expected None"),
        ({"num_context": 3}, "num_context: expected 0 to 2"),
        ({"camera_tokens": torch.zeros(3, 3, 6, 24)}, "plucker: expected at most one"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_dit()(**(example() | change))


def test_absent_additions_are_named_where_their_input_is_given() -> None:
    dit, inputs = random_dit(camera=False, mask_channel=False), example()
    with pytest.raises(ValueError, match="context_mask: expected None"):
        dit(**{k: v for k, v in inputs.items() if k != "plucker"})
    with pytest.raises(ValueError, match="plucker: expected None"):
        dit(**{k: v for k, v in inputs.items() if k != "context_mask"})


def test_per_frame_time_needs_frames_of_their_own() -> None:
    dit = random_dit(patch_size=[3, 2, 2])
    with pytest.raises(ValueError, match="t: expected one per sample"):
        dit(**example())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "width"),
        ({"width": 26, "num_heads": 2}, "width"),
        ({"freq_dim": 15}, "freq_dim"),
        ({"patch_size": [2, 2]}, "patch_size"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"camera_attention": True, "patch_size": [2, 2, 2]}, "camera_attention"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoDiTConfig(**(SHAPE | change))
