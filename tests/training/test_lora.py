"""Adapters: nothing changes at first, few parameters learn, and merged they are an ordinary network."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained.wan_dit import save_dit
from model.training.lora import LoRAConfig, add_lora, has_lora, lora_tensors, merged
from model.training.precision import to_training

SHAPE = VideoDiTConfig(width=24, num_heads=2, num_blocks=2, ffn_dim=32, text_dim=16, freq_dim=8)


def base() -> VideoDiT:
    dit = VideoDiT(SHAPE)
    torch.nn.init.normal_(dit.head.linear.weight, std=0.1)
    return dit


def velocity(dit: VideoDiT) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    latents, text = torch.randn(1, 16, 3, 4, 4, generator=draw), torch.randn(1, 5, 16, generator=draw)
    with torch.no_grad():
        return dit(latents, torch.tensor([0.4]), text)


def trained(dit: VideoDiT) -> VideoDiT:
    """With adapters that have learned something."""
    for name, parameter in dit.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return dit


def test_nothing_changes_at_first_and_all_but_the_additions_is_frozen() -> None:
    plain = base()
    before = velocity(plain)
    dit = add_lora(plain, LoRAConfig(rank=2))
    assert torch.equal(velocity(dit), before) and has_lora(dit)
    learning = {name for name, parameter in dit.named_parameters() if parameter.requires_grad}
    additions = {"camera_embedding.patchify.weight", "mask_embedding.weight"}
    assert additions < learning and all("lora_" in name for name in learning - additions)
    assert len(learning - additions) == 2 * SHAPE.num_blocks * 10  # A and B of ten matrices a block


def test_merged_it_computes_the_same_without_adapters() -> None:
    dit = trained(add_lora(base(), LoRAConfig(rank=2)))
    plain = merged(dit)
    assert not has_lora(plain) and has_lora(dit)
    assert plain.state_dict().keys() == base().state_dict().keys()
    torch.testing.assert_close(velocity(plain), velocity(dit), atol=1e-5, rtol=1e-4)


def test_matrices_in_half_the_memory_change_nothing_where_products_are_in_bfloat16() -> None:
    exact = trained(add_lora(base(), LoRAConfig(rank=2)))
    rounded = add_lora(base().bfloat16(), LoRAConfig(rank=2))  # as a base may be stored
    to_training(rounded, torch.device("cpu"), is_bfloat16=True)
    learned = {name for name, parameter in exact.named_parameters() if parameter.requires_grad}
    rounded.load_state_dict(exact.state_dict())
    kinds = {parameter.dtype for parameter in rounded.parameters() if not parameter.requires_grad}
    assert kinds == {torch.float32, torch.bfloat16}
    gradients = []
    for dit in (exact, rounded):
        with torch.autocast("cpu", torch.bfloat16):
            dit(torch.ones(1, 16, 3, 4, 4), torch.tensor([0.4]), torch.ones(1, 5, 16)).square().mean().backward()
        gradients.append({name: p.grad for name, p in dit.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == {name for name in learned if "lora_" in name}
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name
    for name, tensor in merged(exact).state_dict().items():  # what is saved, in bfloat16, is off by its last bit
        torch.testing.assert_close(
            merged(rounded).state_dict()[name].bfloat16(), tensor.bfloat16(), rtol=2**-7, atol=2**-9
        )


def test_diffusers_loads_the_adapters_and_computes_the_same(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    plain = base()
    save_dit(plain, tmp_path / "base")
    dit = trained(add_lora(plain, LoRAConfig(rank=2)))
    save_file(lora_tensors(dit), tmp_path / "pytorch_lora_weights.safetensors")
    theirs = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "base")
    draw = torch.Generator().manual_seed(5)
    latents, text = torch.randn(1, 16, 3, 4, 4, generator=draw), torch.randn(1, 5, 16, generator=draw)
    with torch.no_grad():
        without = theirs(latents, torch.tensor([400.0]), text).sample
        theirs.load_lora_adapter(str(tmp_path / "pytorch_lora_weights.safetensors"), prefix="transformer")
        found = theirs(latents, torch.tensor([400.0]), text).sample
    torch.testing.assert_close(found, velocity(dit), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(found, without, atol=1e-2)


def test_a_negative_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^lora.rank: expected 0"):
        LoRAConfig(rank=-1)
