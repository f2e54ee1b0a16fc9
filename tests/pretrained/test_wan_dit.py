"""diffusers' WanTransformer3DModel is the oracle for VideoDiT: same weights, same outputs, both ways."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.dit import VideoDiT, VideoDiTConfig
from model.pretrained.wan import load_dit, save_dit

diffusers = pytest.importorskip("diffusers")

CONFIGS: dict[str, dict[str, Any]] = {
    "wan_shape": {"num_attention_heads": 2, "attention_head_dim": 24, "patch_size": (1, 2, 2)},
    "three_heads_no_text_norm": {
        "num_attention_heads": 3,
        "attention_head_dim": 16,
        "patch_size": (1, 1, 2),
        "cross_attn_norm": False,
        "in_channels": 6,
        "out_channels": 5,
    },
    "temporal_patch": {"num_attention_heads": 4, "attention_head_dim": 12, "patch_size": (2, 2, 1), "eps": 1e-5},
    "odd_head_split": {"num_attention_heads": 1, "attention_head_dim": 40, "patch_size": (1, 2, 2), "freq_dim": 34},
}
SMALL = {"in_channels": 4, "out_channels": 4, "text_dim": 20, "freq_dim": 32, "ffn_dim": 56, "num_layers": 2}


def random_oracle(**config: Any) -> Any:
    """A diffusers model in which no weight is left at a value (zero, one) that could hide a mistake."""
    oracle = diffusers.WanTransformer3DModel(**(SMALL | config)).eval()
    for parameter in oracle.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return oracle


def inputs(in_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, in_channels, 4, 6, 4), torch.tensor([0.137, 0.9]), torch.randn(2, 7, 20)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_loaded_network_agrees_with_diffusers(name: str, tmp_path: Path) -> None:
    oracle = random_oracle(**CONFIGS[name])
    oracle.save_pretrained(tmp_path)
    dit = load_dit(tmp_path)
    latents, t, text = inputs(oracle.config.in_channels)
    # 1e-4 is the contract; float32 sums in another order leave about 1e-6
    assert relative_error(dit(latents, t, text), oracle(latents, 1000 * t, text).sample) < 1e-4


@torch.no_grad()
def test_per_frame_timesteps_agree_with_diffusers_per_token_timesteps(tmp_path: Path) -> None:
    oracle = random_oracle(**CONFIGS["wan_shape"])
    oracle.save_pretrained(tmp_path)
    latents, _, text = inputs(4)
    t = torch.rand(2, 4)
    t[:, 0] = 0
    theirs = oracle(latents, 1000 * t.repeat_interleave(6, dim=1), text).sample
    assert relative_error(load_dit(tmp_path)(latents, t, text), theirs) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_saved_network_agrees_in_diffusers(name: str, tmp_path: Path) -> None:
    random_oracle(**CONFIGS[name]).save_pretrained(tmp_path / "theirs")
    dit = load_dit(tmp_path / "theirs")
    save_dit(dit, tmp_path / "ours")
    oracle, report = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    latents, t, text = inputs(dit.config.in_channels)
    assert relative_error(dit(latents, t, text), oracle(latents, 1000 * t, text).sample) < 1e-4


def test_round_trip_returns_every_tensor_and_the_configuration(tmp_path: Path) -> None:
    dit = tiny_dit()
    save_dit(dit, tmp_path)
    loaded = load_dit(tmp_path)
    assert loaded.config == dit.config
    for name, tensor in dit.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@torch.no_grad()
def test_sharded_folder_loads_the_same(tmp_path: Path) -> None:
    oracle = random_oracle(**CONFIGS["wan_shape"])
    oracle.save_pretrained(tmp_path / "whole")
    oracle.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    whole, sharded = load_dit(tmp_path / "whole").state_dict(), load_dit(tmp_path / "shards").state_dict()
    assert all(torch.equal(whole[name], sharded[name]) for name in whole)


@torch.no_grad()
def test_our_shards_load_in_diffusers(tmp_path: Path) -> None:
    dit = tiny_dit(camera=False, mask_channel=False)
    save_dit(dit, tmp_path, max_shard_bytes=60e3)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    oracle = diffusers.WanTransformer3DModel.from_pretrained(tmp_path)
    latents, t, text = inputs(4)
    assert relative_error(dit(latents, t, text), oracle(latents, 1000 * t, text).sample) < 1e-4


def test_diffusers_names_the_additions_that_it_leaves_out(tmp_path: Path) -> None:
    save_dit(tiny_dit(), tmp_path)
    _, report = diffusers.WanTransformer3DModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["unexpected_keys"]) == {"camera_embedding.weight", "mask_embedding.weight"}


def test_absent_additions_stay_absent(tmp_path: Path) -> None:
    save_dit(tiny_dit(camera=False, mask_channel=False), tmp_path)
    config = load_dit(tmp_path).config
    assert not config.camera and not config.mask_channel


def test_weights_can_be_converted_while_loading(tmp_path: Path) -> None:
    random_oracle(**CONFIGS["wan_shape"]).save_pretrained(tmp_path)
    dit = load_dit(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in dit.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_dim", 1280, "image_dim"),
        ("added_kv_proj_dim", 48, "added_kv_proj_dim"),
        ("pos_embed_seq_len", 514, "pos_embed_seq_len"),
        ("qk_norm", "layer_norm", "qk_norm"),
        ("_class_name", "AutoencoderKLWan", "_class_name"),
        ("num_experts", 2, "num_experts"),
    ],
)
def test_a_variant_that_is_not_covered_is_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    save_dit(tiny_dit(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=message):
        load_dit(tmp_path)


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    save_dit(tiny_dit(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"ffn_dim": 57}))
    with pytest.raises(ValueError, match=r"feed_forward"):
        load_dit(tmp_path)


def test_a_missing_folder_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_dit(tmp_path / "nowhere")
    save_dit(tiny_dit(), tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"safetensors"):
        load_dit(tmp_path)


def test_a_rotary_base_that_diffusers_cannot_express_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rope_theta"):
        save_dit(tiny_dit(rope_theta=100.0), tmp_path)


def test_interpolated_positions_travel_in_the_folder_and_diffusers_names_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dit = tiny_dit(rope_scale=[1.0, 0.5, 0.25])
    save_dit(dit, tmp_path)
    loaded = load_dit(tmp_path)
    assert loaded.config == dit.config
    latents, t, text = inputs(4)
    velocity = dit(latents, t, text)
    assert torch.equal(loaded(latents, t, text), velocity)
    plain = VideoDiT(replace(dit.config, rope_scale=[1.0, 1.0, 1.0]))
    plain.load_state_dict(dit.state_dict())
    assert (plain(latents, t, text) - velocity).abs().max() > 1e-3
    diffusers.WanTransformer3DModel.from_pretrained(tmp_path)
    assert any("rope_scale" in record.getMessage() for record in caplog.records)


def test_cameras_in_attention_that_diffusers_would_leave_out_unsaid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="camera_attention"):
        save_dit(tiny_dit(camera_attention=True), tmp_path)
    assert not any(tmp_path.iterdir())


def tiny_dit(**changes: Any) -> VideoDiT:
    """Random in every weight, also where training starts at zero."""
    shape = {"width": 24, "num_heads": 2, "num_blocks": 2, "ffn_dim": 56, "text_dim": 20, "freq_dim": 32}
    dit = VideoDiT(VideoDiTConfig(in_channels=4, out_channels=4, **(shape | changes)))
    for parameter in dit.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return dit
