"""diffusers' AutoencoderKLWan is the oracle: the same folder gives the same latents and the same video, both ways."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.pretrained.wan_vae import config_from_diffusers, config_to_diffusers, load_vae, save_vae
from model.vae.video_vae import VideoVAE, VideoVAEConfig

STATISTICS = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [2.0, 1.5, 0.5, 1.0]}
OPTIONS: dict[str, dict[str, Any]] = {
    "as published but narrow": {"base_dim": 8, "z_dim": 4, **STATISTICS},
    "wide decoder": {"base_dim": 4, "decoder_base_dim": 8, "z_dim": 4, "num_res_blocks": 1, **STATISTICS},
    "three levels": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 2], "num_res_blocks": 1,
                     "temperal_downsample": [True, True], **STATISTICS},
    "patches": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 3], "num_res_blocks": 1, "patch_size": 2,
                "in_channels": 12, "out_channels": 12, "temperal_downsample": [False, True], **STATISTICS},
    "Wan 2.2 but narrow": {"base_dim": 8, "decoder_base_dim": 12, "z_dim": 4, "num_res_blocks": 2, "patch_size": 2,
                           "in_channels": 12, "out_channels": 12, "is_residual": True, **STATISTICS},
    "Wan 2.2, time halved first": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 2], "num_res_blocks": 1,
                                   "is_residual": True, "temperal_downsample": [True, True], **STATISTICS},
}  # fmt: skip


@pytest.fixture(scope="module")
def autoencoder_class() -> Any:
    return pytest.importorskip("diffusers").AutoencoderKLWan


def oracle(autoencoder_class: Any, options: dict[str, Any]) -> Any:
    """Random weights large enough that every layer shows in the output."""
    torch.manual_seed(0)
    model = autoencoder_class(**options).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        else:
            torch.nn.init.normal_(parameter, std=0.6 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2)
    return model


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_encoding_and_decoding_agree_with_diffusers(
    autoencoder_class: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    theirs = oracle(autoencoder_class, options)
    theirs.save_pretrained(tmp_path)
    ours = load_vae(tmp_path)
    video = torch.rand(2, 3, 13, 16, 32) * 2 - 1
    with torch.no_grad():
        expected = theirs.encode(video).latent_dist
        mean, logvar = ours.posterior(video)
        assert relative_error(mean, expected.mean) < 1e-4
        assert relative_error(logvar, expected.logvar) < 1e-4
        # theirs clamps the video
        assert relative_error(ours.decode(ours.normalise(mean)).clamp(-1, 1), theirs.decode(mean).sample) < 1e-4


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_what_we_save_diffusers_loads_bit_for_bit(
    autoencoder_class: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    theirs = oracle(autoencoder_class, options)
    theirs.save_pretrained(tmp_path / "theirs")
    save_vae(load_vae(tmp_path / "theirs"), tmp_path / "ours")
    back = autoencoder_class.from_pretrained(tmp_path / "ours", low_cpu_mem_usage=False)
    expected = theirs.state_dict()
    assert back.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in back.state_dict().items())
    assert config_from_diffusers(dict(back.config)) == config_from_diffusers(dict(theirs.config))


def small() -> VideoVAE:
    return VideoVAE(VideoVAEConfig(latent_channels=4, base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=0))


def test_the_default_configuration_is_the_published_one(autoencoder_class: Any) -> None:
    import inspect

    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(autoencoder_class.__init__).parameters.items()
        if name != "self"
    }
    ours = config_from_diffusers(defaults)
    ours.latents_mean = ours.latents_std = None
    assert ours == VideoVAEConfig()


def test_a_vae_with_parts_that_wan_lacks_is_not_saved_as_one(tmp_path: Path) -> None:
    vae = VideoVAE(VideoVAEConfig(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=0, linear_path=True))
    with pytest.raises(ValueError, match="linear_path"):
        save_vae(vae, tmp_path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("_class_name", "AutoencoderKL"), ("attn_scales", [0.5]), ("out_channels", 4)],
)
def test_a_config_of_another_kind_is_refused_by_name(entry: str, value: object) -> None:
    config = config_to_diffusers(small().config) | {entry: value}
    with pytest.raises(ValueError, match=entry):
        config_from_diffusers(config)


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    from model.pretrained.diffusers_folder import iterate_tensors, write_folder

    vae = small()
    save_vae(vae, tmp_path / "whole")
    stored = list(iterate_tensors(tmp_path / "whole"))
    write_folder(tmp_path / "shards", config_to_diffusers(vae.config), stored, max_shard_bytes=2000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    loaded = load_vae(tmp_path / "shards").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in vae.state_dict().items())


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_vae(tmp_path)
    save_vae(small(), tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"safetensors.*damaged"):
        load_vae(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"diffusion_pytorch_model\.safetensors"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        load_vae(tmp_path)


def test_weights_of_another_configuration_are_refused_by_name(tmp_path: Path) -> None:
    save_vae(small(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"base_dim": 8}))
    with pytest.raises(ValueError, match=r"expected shape"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_res_blocks": 1}))
    with pytest.raises(ValueError, match="weights: expected"):
        load_vae(tmp_path)


def test_statistics_that_a_file_leaves_out_are_those_of_diffusers(autoencoder_class: Any, tmp_path: Path) -> None:
    oracle(autoencoder_class, {"base_dim": 4, "num_res_blocks": 1}).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if not key.startswith("latents_")}))
    theirs, ours = autoencoder_class.from_pretrained(tmp_path).config, load_vae(tmp_path).config
    assert (ours.latents_mean, ours.latents_std) == (theirs.latents_mean, theirs.latents_std)
